"""Vocoders: HiFi-GAN equal to its authors' code, waves in time with their spectrogram, wrong files refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from voiceclone.audio import log_mel
from voiceclone.errors import AudioError, CheckpointError, VoiceCloneError
from voiceclone.vocoders import Vocoder, load_vocoder, vocode
from voiceclone.vocoders import hifigan as hifigan_module

REFERENCES = Path(__file__).parent / "references"


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCES / "hifigan.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """A second of speech, 22,050 Hz."""
    with np.load(REFERENCES / "resemblyzer.npz") as file:
        return file["clip"][: 256 * 90].astype(np.float32) / 32768


@pytest.fixture
def weights(reference) -> dict[str, torch.Tensor]:
    """Those of a tiny generator, under the authors' names."""
    prefix = "weights/"
    return {k.removeprefix(prefix): torch.from_numpy(v) for k, v in reference.items() if k.startswith(prefix)}


@pytest.fixture
def tiny_file(weights, tmp_path) -> Path:
    path = tmp_path / "g_00000001"
    torch.save({"generator": weights}, path)
    return path


@pytest.fixture(scope="module")
def universal() -> Vocoder:
    return load_vocoder("hifigan")


def test_weights_may_be_named_with_the_vocoder(tiny_file, reference):
    mel = torch.from_numpy(reference["tiny/mel"])
    named = load_vocoder(f"hifigan:{tiny_file}")
    assert torch.equal(named(mel), load_vocoder("hifigan", tiny_file)(mel))
    with pytest.raises(VoiceCloneError, match="no weights to load from some.pt"):
        load_vocoder("griffin_lim:some.pt")


def test_a_random_generator_equals_the_authors(reference, tiny_file):
    wave = load_vocoder("hifigan", tiny_file)(torch.from_numpy(reference["tiny/mel"]))
    assert wave.shape == (2, 9 * 256)
    np.testing.assert_allclose(wave.numpy(), reference["tiny/wave"], atol=1e-4, rtol=0)


def test_the_universal_generator_equals_the_authors(reference, universal):
    wave = universal(torch.from_numpy(reference["universal/mel"]))
    np.testing.assert_allclose(wave.numpy(), reference["universal/wave"], atol=1e-4, rtol=0)


def test_weights_without_weight_norm_and_without_wrapping_are_read_too(reference, weights, tmp_path):
    folded = hifigan_module._without_weight_norm(weights)
    plain = {name: w.squeeze(2) if w.ndim == 4 else w for name, w in folded.items()}
    torch.save(plain, tmp_path / "plain.pt")
    wave = load_vocoder("hifigan", tmp_path / "plain.pt")(torch.from_numpy(reference["tiny/mel"]))
    np.testing.assert_allclose(wave.numpy(), reference["tiny/wave"], atol=1e-4, rtol=0)


def test_the_number_of_mel_bands_comes_from_the_weights(weights, tmp_path):
    weights["conv_pre.weight_v"] = weights["conv_pre.weight_v"][:, :20]
    torch.save({"generator": weights}, tmp_path / "bands.pt")
    vocoder = load_vocoder("hifigan", tmp_path / "bands.pt")
    assert vocoder.audio.n_mels == 20
    assert vocoder(torch.zeros(1, 20, 3)).shape == (1, 3 * 256)


def test_speaking_leaves_the_spectrogram_as_it_was(reference, tiny_file):
    mel = torch.from_numpy(reference["tiny/mel"])
    before = mel.clone()
    load_vocoder("hifigan", tiny_file)(mel)
    assert torch.equal(mel, before)


@pytest.mark.parametrize("name", ["hifigan", "griffin_lim"])
def test_the_wave_is_in_time_with_the_spectrogram(name, spoken):
    mel = log_mel(spoken)[0]
    vocoder = load_vocoder(name)
    wave = vocode(vocoder, mel)
    assert wave.shape == ((mel.shape[1] - 1) * 256,) and wave.dtype == np.float32

    def error(late: int) -> float:  # between spectrograms, when the wave is moved by so many samples
        difference = log_mel(np.roll(wave, late))[0][:, 4:-4] - mel[:, 4 : wave.size // 256 - 3]
        return float(difference.abs().mean())

    assert error(0) < 0.35  # nepers; a fifth of what two different frames differ
    assert error(0) < min(error(-128), error(128))


@pytest.mark.parametrize("name", ["hifigan", "griffin_lim"])
def test_a_click_comes_out_where_it_was(name):
    wave = np.zeros(256 * 40, np.float32)
    wave[256 * 20] = 0.9
    energy = vocode(load_vocoder(name), log_mel(wave)[0]) ** 2
    centre = np.sum(energy * np.arange(energy.size)) / np.sum(energy)
    assert abs(centre - 256 * 20) < 64  # half a hop, a wrong framing, would be 128


def test_griffin_lim_says_the_same_every_time_and_stays_within_full_scale(spoken):
    vocoder = load_vocoder("griffin_lim")
    mel = log_mel(spoken[: 256 * 20]) + 3.0  # 26 dB louder than it was: beyond full scale
    first = vocoder(mel)
    assert torch.equal(first, vocoder(mel))
    assert first.abs().max() <= 1.0


@pytest.mark.parametrize("shape", [(80, 5), (1, 40, 5), (1, 80, 0)])
def test_a_spectrogram_of_another_shape_is_refused(shape, tiny_file):
    with pytest.raises(AudioError, match="shape"):
        load_vocoder("hifigan", tiny_file)(torch.zeros(shape))


def test_a_spectrogram_that_is_not_numbers_is_refused():
    with pytest.raises(AudioError, match="not numbers"):
        load_vocoder("griffin_lim")(torch.full((1, 80, 4), torch.nan))


def test_an_unknown_vocoder_names_the_known_ones():
    with pytest.raises(VoiceCloneError, match="hifigan, griffin_lim"):
        load_vocoder("wavenet")


def test_weights_for_griffin_lim_are_refused(tiny_file):
    with pytest.raises(VoiceCloneError, match="no weights"):
        load_vocoder("griffin_lim", tiny_file)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.pt"):
        load_vocoder("hifigan", tmp_path / "nowhere.pt")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"", "cannot be read"),
        (b"RIFF....WAVEfmt ", "is a wave file"),
    ],
)
def test_a_file_that_is_no_weights_is_refused(content, complaint, tmp_path):
    path = tmp_path / "g_02500000"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint):
        load_vocoder("hifigan", path)


def test_a_truncated_file_is_refused(tiny_file):
    tiny_file.write_bytes(tiny_file.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_vocoder("hifigan", tiny_file)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"generator": Path}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="would run code when opened .* and is refused"):
        load_vocoder("hifigan", tmp_path / "code.pt")


@pytest.mark.parametrize("content", [{"state_dict": {}, "iteration": 3}, {"mpd": {}, "msd": {}}, [1, 2], {}])
def test_another_models_checkpoint_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no HiFi-GAN generator|expected a dict of weights"):
        load_vocoder("hifigan", tmp_path / "other.pt")


def damage(weights: dict[str, torch.Tensor], how: str) -> None:
    if how == "a layer is missing":
        del weights["ups.2.bias"]
    elif how == "a layer has another size":
        weights["conv_post.bias"] = torch.zeros(2)
    elif how == "another hop":
        weights["ups.3.weight_v"] = torch.ones(4, 2, 8)
    elif how == "version 3":
        for name in [n for n in weights if ".convs1." in n]:
            weights[name.replace("convs1", "convs")] = weights.pop(name)
    elif how == "not a number":
        weights["conv_pre.bias"][0] = torch.nan


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("a layer is missing", "ups.2.bias"),
        ("a layer has another size", "conv_post.bias"),
        ("another hop", "512 samples of a frame"),
        ("version 3", "version 3"),
        ("not a number", "not numbers"),
    ],
)
def test_a_generator_that_does_not_fit_is_refused_with_the_reason(how, complaint, weights, tmp_path):
    damage(weights, how)
    torch.save({"generator": weights}, tmp_path / "g")
    with pytest.raises(CheckpointError, match=complaint):
        load_vocoder("hifigan", tmp_path / "g")


def test_packaged_weights_of_another_hash_are_refused(monkeypatch):
    package, relative, _ = hifigan_module.UNIVERSAL
    monkeypatch.setattr(hifigan_module, "UNIVERSAL", (package, relative, "0" * 64))
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_vocoder("hifigan")
