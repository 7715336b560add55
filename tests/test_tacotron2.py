"""Tacotron 2 equals NVIDIA's, and its fast form equals its slow form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceclone.errors import CheckpointError, VoiceCloneError
from voiceclone.tacotron2 import (
    FULL,
    SMALL,
    AttentionWindow,
    LossConfig,
    Tacotron2,
    Tacotron2Config,
    load_nvidia,
    save_nvidia,
    tacotron_loss,
)
from voiceclone.tacotron2.checkpoint import (
    Checkpoint,
    load_base,
    load_checkpoint,
    newest_checkpoint,
    save_base,
    save_checkpoint,
)

REFERENCE = Path(__file__).parent / "references" / "nvidia_tacotron2.npz"
TINY = Tacotron2Config(
    symbols_embedding_dim=16,
    attention_rnn_dim=24,
    attention_dim=8,
    attention_location_n_filters=4,
    attention_location_kernel_size=7,
    prenet_dim=12,
    decoder_rnn_dim=20,
    postnet_embedding_dim=16,
)
TINY_SMALL = replace(
    TINY,
    n_frames_per_step=3,
    speaker_dim=6,
    mask_encoder=True,
    normalise_mels=True,
    prenet_dropout=0.0,
)


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    with np.load(REFERENCE) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def nvidia_file(reference, tmp_path) -> Path:
    weights = {name.removeprefix("weights/"): t for name, t in reference.items() if name.startswith("weights/")}
    path = tmp_path / "nvidia"
    torch.save({"iteration": 7, "state_dict": weights, "optimizer": {}, "learning_rate": 1e-3}, path)
    return path


def a_batch(config: Tacotron2Config, lengths=(9, 5), frames=(24, 14)):
    torch.manual_seed(0)
    text = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    mels = torch.zeros(len(lengths), config.n_mels, max(frames))
    for row, (n, f) in enumerate(zip(lengths, frames, strict=True)):
        text[row, :n] = torch.randint(1, 148, (n,))
        mels[row, :, :f] = torch.randn(config.n_mels, f)
    speaker = torch.randn(len(lengths), config.speaker_dim) if config.speaker_dim else None
    return text, torch.tensor(lengths), mels, torch.tensor(frames), speaker


def test_full_preset_has_nvidias_number_of_parameters():
    assert Tacotron2(FULL).n_parameters == 28_193_153


def test_small_preset_is_about_six_million():
    assert 5e6 < Tacotron2(SMALL).n_parameters < 7e6


def test_teacher_forced_output_equals_nvidias(reference, nvidia_file):
    model = load_nvidia(nvidia_file)
    model.decoder.prenet.dropout = 0.0
    out = model(*(reference[f"forced/{name}"] for name in ("text", "text_lengths", "mels", "mel_lengths")))
    for name in ("mel", "mel_postnet", "gate", "alignment"):
        torch.testing.assert_close(getattr(out, name), reference[f"forced/{name}"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["free_gate", "free_steps"])
def test_free_running_output_equals_nvidias(reference, nvidia_file, case):
    model = load_nvidia(nvidia_file)
    model.decoder.prenet.dropout = 0.0
    text = reference[f"{case}/text"]
    out = model.infer(
        text,
        torch.tensor([text.shape[1]]),
        int(reference[f"{case}/max_steps"]),
        gate_threshold=float(reference[f"{case}/gate_threshold"]),
    )
    assert bool(out.stopped) == (case == "free_gate")
    for name in ("mel", "mel_postnet", "gate", "alignment"):
        torch.testing.assert_close(getattr(out, name), reference[f"{case}/{name}"], atol=1e-4, rtol=0)


def test_nvidia_checkpoint_survives_a_round_trip(nvidia_file, reference, tmp_path):
    saved = save_nvidia(load_nvidia(nvidia_file), tmp_path / "again", iteration=7)
    content = torch.load(saved, weights_only=True)
    assert set(content) == {"iteration", "state_dict", "optimizer", "learning_rate"}
    weights = {name.removeprefix("weights/"): t for name, t in reference.items() if name.startswith("weights/")}
    assert set(content["state_dict"]) == set(weights)
    assert all(torch.equal(content["state_dict"][name], weights[name]) for name in weights)


def test_small_preset_refuses_nvidias_form(tmp_path):
    with pytest.raises(CheckpointError, match="full"):
        save_nvidia(Tacotron2(TINY_SMALL), tmp_path / "x")


@pytest.mark.parametrize("config", [replace(TINY, prenet_dropout=0.0), TINY_SMALL], ids=["full", "small"])
def test_whole_sequence_equals_step_by_step(config):
    model = Tacotron2(config).eval()
    text, text_lengths, mels, mel_lengths, speaker = a_batch(config)
    out = model(text, text_lengths, mels, mel_lengths, speaker)
    decoder = model.decoder
    encoded = model.encode(text, text_lengths, speaker)
    memory = decoder.read(encoded, torch.arange(text.shape[1]) >= text_lengths.unsqueeze(1))
    state, frames = decoder.initial_state(encoded), torch.zeros(2, 80 * config.n_frames_per_step)
    made = []
    for step in range(mels.shape[2] // config.n_frames_per_step):
        state, output = decoder.step(state, frames, memory)
        made.append(output.frames.view(2, config.n_frames_per_step, 80))
        torch.testing.assert_close(output.weights, out.alignment[:, step], atol=1e-5, rtol=0)
        at = step * config.n_frames_per_step
        frames = mels[:, :, at : at + config.n_frames_per_step].transpose(1, 2).flatten(1)
    stepped = torch.cat(made, 1).transpose(1, 2)
    inside = (torch.arange(mels.shape[2]) < mel_lengths.unsqueeze(1)).unsqueeze(1)
    torch.testing.assert_close(stepped * inside, out.mel, atol=1e-5, rtol=0)


def test_padding_does_not_change_the_small_preset():
    model = Tacotron2(TINY_SMALL).eval()
    text, text_lengths, mels, mel_lengths, speaker = a_batch(TINY_SMALL)
    both = model(text, text_lengths, mels, mel_lengths, speaker)
    alone = model(text[1:, :5], text_lengths[1:], mels[1:, :, :14], mel_lengths[1:], speaker[1:])
    torch.testing.assert_close(both.mel[1:, :, :14], alone.mel, atol=1e-5, rtol=0)
    torch.testing.assert_close(both.alignment[1:, :5, :5], alone.alignment, atol=1e-5, rtol=0)


def test_alignment_is_a_distribution_over_the_texts_own_symbols():
    model = Tacotron2(TINY_SMALL)
    text, text_lengths, mels, mel_lengths, speaker = a_batch(TINY_SMALL)
    alignment = model(text, text_lengths, mels, mel_lengths, speaker).alignment
    torch.testing.assert_close(alignment.sum(2), torch.ones(2, 8))
    assert alignment[1, :, 5:].abs().max() == 0


def test_window_keeps_attention_near_the_symbol_being_spoken():
    model = Tacotron2(TINY_SMALL).eval()
    text, text_lengths, _, _, speaker = a_batch(TINY_SMALL, lengths=(30, 20))
    out = model.infer(text, text_lengths, 15, speaker=speaker, window=AttentionWindow(back=1, ahead=2))
    moves = out.alignment.argmax(2).diff(dim=1)
    assert moves.min() >= -1
    assert moves.max() <= 2


def test_mel_statistics_shift_and_scale_the_output():
    model = Tacotron2(TINY_SMALL).eval()
    batch = a_batch(TINY_SMALL)
    plain = model(*batch).mel
    mean, deviation = torch.full((80,), -5.0), torch.full((80,), 2.5)
    model.set_mel_statistics(mean, deviation)
    text, text_lengths, mels, mel_lengths, speaker = batch
    moved = model(text, text_lengths, mels * 2.5 - 5, mel_lengths, speaker).mel
    torch.testing.assert_close(moved[0], plain[0] * 2.5 - 5, atol=1e-4, rtol=0)
    with pytest.raises(VoiceCloneError, match="normalise_mels"):
        Tacotron2(TINY).set_mel_statistics(mean, deviation)


def test_loss_is_zero_for_perfect_mels_and_ignores_padding():
    model = Tacotron2(TINY_SMALL).eval()
    text, text_lengths, mels, mel_lengths, speaker = a_batch(TINY_SMALL)
    out = model(text, text_lengths, mels, mel_lengths, speaker)
    perfect = replace(out, mel=mels, mel_postnet=mels)
    assert tacotron_loss(model, perfect, mels, None, LossConfig(absolute=1.0)).mel == 0
    wrong_padding = mels.clone()
    wrong_padding[1, :, 14:] = 99.0
    losses = [tacotron_loss(model, out, target, None, LossConfig()).mel for target in (mels, wrong_padding)]
    assert losses[0] == losses[1]


def test_attention_loss_is_least_for_the_true_times():
    model = Tacotron2(TINY_SMALL).eval()
    text, text_lengths, mels, mel_lengths, speaker = a_batch(TINY_SMALL)
    out = model(text, text_lengths, mels, mel_lengths, speaker)
    config = LossConfig(attention=1.0)
    own = tacotron_loss(model, out, mels, out.alignment, config).attention
    entropy = -(out.alignment * out.alignment.clamp(min=1e-6).log()).sum() / out.alignment.sum()
    torch.testing.assert_close(own, entropy)
    other = tacotron_loss(model, out, mels, out.alignment.roll(1, dims=1), config).attention
    assert other > own


def test_checkpoint_brings_everything_back(tmp_path):
    model = Tacotron2(TINY_SMALL).eval()
    checkpoint = Checkpoint(model, 5, torch.ones(6), {"rate": 0.1}, {"wer": 0.2})
    path = save_checkpoint(tmp_path / "step-000005.pt", checkpoint)
    again = load_checkpoint(path)
    batch = a_batch(TINY_SMALL)
    assert torch.equal(again.model.eval()(*batch).mel, model(*batch).mel)
    assert (again.step, again.training, again.measures) == (5, {"rate": 0.1}, {"wer": 0.2})
    assert again.model.config == model.config


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_torn_checkpoint_is_passed_over(tmp_path, harm):
    whole = save_checkpoint(tmp_path / "step-000001.pt", Checkpoint(Tacotron2(TINY_SMALL), 1))
    torn = save_checkpoint(tmp_path / "step-000002.pt", Checkpoint(Tacotron2(TINY_SMALL), 2))
    content = bytearray(torn.read_bytes())
    if harm == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 255
    torn.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(torn)
    path, checkpoint = newest_checkpoint(tmp_path)
    assert (path, checkpoint.step) == (whole, 1)


def test_base_is_kept_in_half_precision(tmp_path):
    model = Tacotron2(TINY_SMALL).eval()
    again = load_base(save_base(tmp_path, model)).eval()
    batch = a_batch(TINY_SMALL)
    torch.testing.assert_close(again(*batch).mel, model(*batch).mel, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"<!DOCTYPE html><html>quota</html>", "web page"), (b"hello, this is text", "refused|torn"), (b"", "torn")],
)
def test_wrong_files_are_named_for_what_they_are(tmp_path, content, said):
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        load_nvidia(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harmed",))

    torch.save({"state_dict": Harmful()}, tmp_path / "model")
    with pytest.raises(CheckpointError, match="refused"):
        load_nvidia(tmp_path / "model")
    assert not (tmp_path / "harmed").exists()


def test_other_model_is_refused(tmp_path):
    torch.save({"generator": {"conv_pre.weight": torch.zeros(3)}}, tmp_path / "g")
    with pytest.raises(CheckpointError, match="no Tacotron 2"):
        load_nvidia(tmp_path / "g")
