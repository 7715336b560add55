"""Tacotron 2 equals NVIDIA's, and its fast form equals its slow form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
from tiny import SIZES

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
    adopt,
    load_base,
    load_checkpoint,
    newest_checkpoint,
    save_base,
    save_checkpoint,
)
from voiceclone.tacotron2.harmonics import SPREAD, to_hertz, to_model

REFERENCE = Path(__file__).parent / "references" / "nvidia_tacotron2.npz"
TINY = Tacotron2Config(**SIZES)
TINY_SMALL = replace(
    TINY,
    n_frames_per_step=3,
    speaker_dim=6,
    mask_encoder=True,
    normalise_mels=True,
    prenet_dropout=0.0,
)
TINY_ENVELOPE = replace(TINY_SMALL, envelope_order=20)
FORMS = pytest.mark.parametrize(
    "config", [replace(TINY, prenet_dropout=0.0), TINY_SMALL, TINY_ENVELOPE], ids=["full", "small", "envelope"]
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


def a_pitch(mel_lengths, frames=24):
    """Pitches of 100 to 300 Hz (batch, frames), every fourth frame unvoiced, zeros after each clip's end."""
    torch.manual_seed(1)
    pitch = 100 + 200 * torch.rand(len(mel_lengths), frames)
    pitch[:, ::4] = 0
    return pitch * (torch.arange(frames) < mel_lengths.unsqueeze(1))


def test_full_preset_has_nvidias_number_of_parameters():
    assert Tacotron2(FULL).n_parameters == 28_193_153


def test_small_preset_is_about_five_million():
    assert 4.9e6 < Tacotron2(SMALL).n_parameters < 5.1e6


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
    assert set(content) == {"iteration", "state_dict", "optimizer", "learning_rate", "front_end"}  # the last is ours
    weights = {name.removeprefix("weights/"): t for name, t in reference.items() if name.startswith("weights/")}
    assert set(content["state_dict"]) == set(weights)
    assert all(torch.equal(content["state_dict"][name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    "config", [TINY_SMALL, TINY_ENVELOPE, replace(TINY, envelope_order=20)], ids=["small", "envelope", "only envelope"]
)
def test_small_preset_refuses_nvidias_form(tmp_path, config):
    with pytest.raises(CheckpointError, match="full"):
        save_nvidia(Tacotron2(config), tmp_path / "x")
    assert not (tmp_path / "x").exists()


# The whole sequence at once -----------------------------------------------------------------------------------------


def step_by_step(model, encoded, text_lengths, groups):
    """All that the decoder says, stepped through with the true frames (steps, batch, numbers), as in `forward`."""
    decoder = model.decoder
    memory = decoder.read(encoded, torch.arange(encoded.shape[1]) >= text_lengths.unsqueeze(1))
    weights = decoder.step_weights(encoded)
    state, frames = decoder.initial_state(encoded), torch.zeros_like(groups[0])
    outputs = []
    for group in groups:
        state, output = decoder.step(state, frames, memory, weights)
        outputs.append(output)
        frames = group
    said = decoder.ungroup(torch.stack([output.frames for output in outputs]))
    decided = torch.stack([output.decided for output in outputs])  # (steps, batch, decoder_rnn_dim + width)
    pitch = None if decoder.pitch_layer is None else decoder.ungroup(decoder.pitch_layer(decided))
    gate = decoder.gate_layer(decided).squeeze(2).t()
    return said, pitch, gate, torch.stack([output.weights for output in outputs], 1)


@FORMS
@pytest.mark.parametrize("lengths", [(9, 5), (5, 3)], ids=["contexts", "symbols"])  # more symbols than width, and fewer
def test_whole_sequence_equals_step_by_step(config, lengths):
    model = Tacotron2(config).eval()
    text, text_lengths, mels, mel_lengths, speaker = a_batch(config, lengths)
    out = model(text, text_lengths, mels, mel_lengths, speaker)
    known = model.envelope.analyse(mels) if config.envelope_order else mels
    encoded = model.encode(text, text_lengths, speaker)
    said, pitch, gate, weights = step_by_step(model, encoded, text_lengths, model.decoder.group(known))
    inside = (torch.arange(mels.shape[2]) < mel_lengths.unsqueeze(1)).unsqueeze(1)
    mel = model.envelope.draw(said) if config.envelope_order else said
    torch.testing.assert_close(mel * inside, out.mel, atol=1e-5, rtol=0)
    torch.testing.assert_close(weights, out.alignment, atol=1e-5, rtol=0)
    torch.testing.assert_close(gate[0], out.gate[0], atol=1e-5, rtol=0)  # the first text's: no step is padding
    if config.envelope_order:
        torch.testing.assert_close(pitch, out.pitch, atol=1e-5, rtol=0)
    else:
        assert pitch is None and out.pitch is None


@FORMS
def test_gradients_of_the_whole_sequence_are_those_of_step_by_step(config):
    model = Tacotron2(replace(config, attention_dropout=0.0, decoder_dropout=0.0)).double()
    torch.manual_seed(2)
    text_lengths = torch.tensor([9, 5])
    encoded = torch.randn(2, 9, config.symbols_embedding_dim, dtype=torch.float64, requires_grad=True)
    frames = torch.randn(2, config.frame_size, 24, dtype=torch.float64)
    outside = torch.arange(9) >= text_lengths.unsqueeze(1)
    gradients = []
    for given in (
        model.decoder(encoded, outside, frames),
        step_by_step(model, encoded, text_lengths, model.decoder.group(frames)),
    ):
        torch.manual_seed(3)  # a loss in which every number of the output has another weight
        loss = sum((part * torch.randn(part.shape, dtype=torch.float64)).sum() for part in given if part is not None)
        of = dict(model.decoder.named_parameters()) | {"encoded": encoded}
        gradients.append(dict(zip(of, torch.autograd.grad(loss, list(of.values())), strict=True)))
    for name, expected in gradients[1].items():
        assert expected.abs().max() > 0, name
        difference = (gradients[0][name] - expected).abs().max()
        assert difference < 1e-6 * expected.abs().max(), name


@FORMS
def test_what_a_model_speaks_is_what_it_predicts_of_its_own_frames(config):
    model = Tacotron2(config).eval()
    text, _, _, _, speaker = a_batch(config)
    speaker = None if speaker is None else speaker[:1]
    spoken = model.infer(text[:1], torch.tensor([9]), 8, speaker=speaker, gate_threshold=1.0)
    assert spoken.mel.shape == (1, 80, 8 * config.n_frames_per_step)
    forced = model(text[:1], torch.tensor([9]), spoken.mel, spoken.mel_lengths, speaker)
    for name in ("mel", "mel_postnet", "gate", "alignment", "pitch"):
        if getattr(spoken, name) is not None:
            torch.testing.assert_close(getattr(forced, name), getattr(spoken, name), atol=1e-4, rtol=0)
    assert (spoken.pitch is not None) == bool(config.envelope_order)


@pytest.mark.parametrize("config", [TINY_SMALL, TINY_ENVELOPE], ids=["small", "envelope"])
def test_padding_does_not_change_the_small_preset(config):
    model = Tacotron2(config).eval()
    text, text_lengths, mels, mel_lengths, speaker = a_batch(config)
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
    window = AttentionWindow(back=1, ahead=2)
    out = model.infer(text, text_lengths, 15, speaker=speaker, gate_threshold=1.0, window=window)
    moves = out.alignment.argmax(2).diff(dim=1)
    assert moves.shape == (2, 14)
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


@pytest.mark.parametrize("config", [TINY_SMALL, TINY_ENVELOPE], ids=["small", "envelope"])
def test_loss_is_zero_for_perfect_mels_and_ignores_padding(config):
    model = Tacotron2(config).eval()
    text, text_lengths, mels, mel_lengths, speaker = a_batch(config)
    out = model(text, text_lengths, mels, mel_lengths, speaker)
    perfect = replace(out, mel=model.smooth(mels), mel_postnet=mels)
    assert tacotron_loss(model, perfect, mels, None, LossConfig(absolute=1.0, contrast=1.0)).mel == 0
    wrong_padding = mels.clone()
    wrong_padding[1, :, 14:] = 99.0
    settings = LossConfig(absolute=1.0, contrast=1.0)
    losses = [tacotron_loss(model, out, target, None, settings).mel for target in (mels, wrong_padding)]
    assert losses[0] == losses[1] > 0


def test_mel_loss_is_the_mean_error_of_the_frames_that_are_the_clips():
    model = Tacotron2(TINY).eval()
    text, text_lengths, mels, mel_lengths, speaker = a_batch(TINY)
    out = model(text, text_lengths, mels, mel_lengths, speaker)
    expected = 0.0
    for predicted in (out.mel, out.mel_postnet):
        error = torch.cat([(predicted - mels)[row, :, :frames] for row, frames in enumerate(mel_lengths)], dim=1)
        expected += float(error.square().mean() + 0.5 * error.abs().mean())
    found = tacotron_loss(model, out, mels, None, LossConfig(absolute=0.5)).mel
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_blurred_picture_lacks_contrast_and_one_at_another_level_does_not():
    model = Tacotron2(TINY_SMALL).eval()
    *batch, mels, mel_lengths, speaker = a_batch(TINY_SMALL)
    out = model(*batch, mels, mel_lengths, speaker)

    def contrast(said):
        output = replace(out, mel=said, mel_postnet=said)
        plain, more = (tacotron_loss(model, output, mels, None, LossConfig(contrast=c)).mel for c in (0.0, 1.0))
        return float(more - plain)

    assert contrast(mels + 3.0) < 1e-3
    mean = mels.mean((1, 2), keepdim=True)
    halves = contrast(mean + 0.5 * (mels - mean)), contrast(mean + 0.75 * (mels - mean))
    assert halves[0] == pytest.approx(2 * halves[1], rel=0.01) and halves[0] > 0.5


# Envelope and pitch -------------------------------------------------------------------------------------------------


def test_smooth_mels_are_without_what_the_decoder_cannot_say():
    model = Tacotron2(TINY_ENVELOPE)
    mels = a_batch(TINY_ENVELOPE)[2]
    mean, deviation = torch.linspace(-6, -4, 80), torch.linspace(1, 3, 80)
    model.set_mel_statistics(mean, deviation)
    coefficients = scipy.fft.dct(((mels - mean[:, None]) / deviation[:, None]).numpy(), axis=1, norm="ortho")
    coefficients[:, 20:] = 0
    expected = scipy.fft.idct(coefficients, axis=1, norm="ortho") * deviation[:, None].numpy() + mean[:, None].numpy()
    np.testing.assert_allclose(model.smooth(mels), expected, atol=1e-4)
    plain = Tacotron2(TINY_SMALL)
    assert torch.equal(plain.smooth(mels), mels)


def test_harmonics_are_drawn_from_the_given_pitch_or_else_from_the_models_own():
    model = Tacotron2(TINY_ENVELOPE).eval()
    with torch.no_grad():  # a pitch layer whose voicing varies from frame to frame
        model.decoder.pitch_layer.weight.mul_(5)
    *batch, mel_lengths, speaker = a_batch(TINY_ENVELOPE)
    own = model(*batch, mel_lengths, speaker)
    said = to_hertz(own.pitch)
    assert (said > 0).any() and (said == 0).any()
    again = model(*batch, mel_lengths, speaker, said)
    assert torch.equal(again.mel_postnet, own.mel_postnet)
    other = model(*batch, mel_lengths, speaker, a_pitch(mel_lengths))
    for name in ("mel", "gate", "alignment", "pitch"):  # nothing but the postnet hears of it
        assert torch.equal(getattr(other, name), getattr(own, name)), name
    assert (other.mel_postnet - own.mel_postnet).abs().max() > 1e-3


def test_mels_teach_the_decoder_nothing_of_pitch():
    model = Tacotron2(TINY_ENVELOPE)
    batch = a_batch(TINY_ENVELOPE)
    tacotron_loss(model, model(*batch), batch[2], None, LossConfig()).total.backward()
    assert model.decoder.pitch_layer.weight.grad is None
    pitch = a_pitch(batch[3])
    tacotron_loss(model, model(*batch, pitch), batch[2], None, LossConfig(), pitch).total.backward()
    assert model.decoder.pitch_layer.weight.grad.abs().sum() > 0


def test_pitch_loss_is_zero_for_the_true_pitch_and_grows_with_its_error():
    model = Tacotron2(TINY_ENVELOPE).eval()
    *batch, mels, mel_lengths, speaker = a_batch(TINY_ENVELOPE)
    out = model(*batch, mels, mel_lengths, speaker)
    pitch = a_pitch(mel_lengths)

    def loss(said, voicing=torch.where(pitch > 0, 40.0, -40.0), truth=pitch):
        output = replace(out, pitch=torch.stack((to_model(said), voicing), 1))
        return tacotron_loss(model, output, mels, None, LossConfig(), truth).pitch

    assert loss(pitch) < 1e-6
    higher = pitch * np.exp(0.5 * SPREAD)  # everywhere half a unit too high
    torch.testing.assert_close(loss(higher), torch.tensor(0.25))
    torch.testing.assert_close(loss(pitch, torch.zeros_like(pitch)), torch.tensor(2.0).log())  # voiced? who knows
    assert loss(pitch, torch.where(pitch > 0, -40.0, 40.0)) > 30


def test_pitch_loss_ignores_padding_and_what_is_said_of_unvoiced_frames():
    model = Tacotron2(TINY_ENVELOPE).eval()
    *batch, mels, mel_lengths, speaker = a_batch(TINY_ENVELOPE)
    out = model(*batch, mels, mel_lengths, speaker)
    pitch = a_pitch(mel_lengths)
    expected = tacotron_loss(model, out, mels, None, LossConfig(), pitch)
    said = out.pitch.clone()
    said[:, 0][pitch == 0] = 7.0  # no pitch is right where there is none
    said[1, :, 14:] = 9.0
    padded = pitch.clone()
    padded[1, 14:] = 444.0
    changed = tacotron_loss(model, replace(out, pitch=said), mels, None, LossConfig(), padded)
    torch.testing.assert_close(changed.pitch, expected.pitch)
    assert expected.pitch > 0.1
    heavier = tacotron_loss(model, out, mels, None, LossConfig(pitch=3.0), pitch)
    torch.testing.assert_close(heavier.total, expected.total + 2 * expected.pitch)


def test_without_a_pitch_to_learn_or_to_say_its_loss_is_nothing():
    for config, pitch in ((TINY_ENVELOPE, None), (TINY_SMALL, torch.full((2, 24), 120.0))):
        model = Tacotron2(config).eval()
        batch = a_batch(config)
        assert tacotron_loss(model, model(*batch, pitch), batch[2], None, LossConfig(), pitch).pitch == 0


@pytest.mark.parametrize("order", [-1, 81])
def test_an_envelope_of_more_numbers_than_bands_is_refused(order):
    with pytest.raises(VoiceCloneError, match="envelope_order"):
        replace(TINY, envelope_order=order)


# Attention ----------------------------------------------------------------------------------------------------------


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


# Files --------------------------------------------------------------------------------------------------------------


@FORMS
def test_checkpoint_brings_everything_back(tmp_path, config):
    model = Tacotron2(config).eval()
    checkpoint = Checkpoint(model, 5, torch.ones(6), {"rate": 0.1}, {"wer": 0.2})
    path = save_checkpoint(tmp_path / "step-000005.pt", checkpoint)
    again = load_checkpoint(path)
    batch = a_batch(config)
    assert torch.equal(again.model.eval()(*batch).mel_postnet, model(*batch).mel_postnet)
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


@FORMS
def test_base_is_kept_in_half_precision(tmp_path, config):
    model = Tacotron2(config).eval()
    again = load_base(save_base(tmp_path, model)).eval()
    assert again.config == config
    batch = a_batch(config)
    pitch = a_pitch(batch[3])  # given: the model's own may be voiced by a hair
    for name in ("mel", "mel_postnet"):
        expected = getattr(model(*batch, pitch), name)
        torch.testing.assert_close(getattr(again(*batch, pitch), name), expected, atol=0.02, rtol=0.02)


def test_a_base_from_before_there_were_envelopes_has_none(tmp_path):
    model = Tacotron2(TINY_SMALL).eval()
    path = save_base(tmp_path, model) / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["envelope_order"]
    path.write_text(json.dumps(content))
    again = load_base(tmp_path)
    assert again.config == TINY_SMALL and again.envelope is None


def test_adopted_weights_are_the_others_bit_for_bit_and_the_rest_begins_anew():
    torch.manual_seed(5)
    other, model = Tacotron2(TINY_SMALL), Tacotron2(TINY_ENVELOPE)
    other.set_mel_statistics(torch.full((80,), -5.0), torch.full((80,), 2.0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    anew = adopt(model, other)
    assert anew == (
        "decoder.linear_projection",
        "decoder.pitch_layer",
        "decoder.prenet.layers.0",
        "postnet.convolutions.0.0",
    )
    for name, tensor in model.state_dict().items():
        weights = other.state_dict()
        fits = name in weights and weights[name].shape == tensor.shape
        assert fits or name.startswith(anew) or name == "envelope.gain", name  # 1 everywhere until it is measured
        assert torch.equal(tensor, weights[name] if fits else before[name]), name
    assert torch.equal(model.mel_mean, torch.full((80, 1), -5.0))


@FORMS
def test_a_model_of_the_same_sizes_is_adopted_whole(config):
    torch.manual_seed(5)
    other, model = Tacotron2(config).eval(), Tacotron2(config).eval()
    batch = a_batch(config)
    assert not torch.equal(model(*batch).mel_postnet, other(*batch).mel_postnet)
    assert adopt(model, other) == ()
    assert torch.equal(model(*batch).mel_postnet, other(*batch).mel_postnet)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"<!DOCTYPE html><html>quota</html>", "web page"), (b"hello, this is text", "a text"), (b"", "empty")],
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
