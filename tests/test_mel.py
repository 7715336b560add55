"""The one log-mel: equal to NVIDIA's and to librosa's."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from voiceclone.audio import AudioConfig, log_mel
from voiceclone.errors import AudioError

REFERENCE = Path(__file__).parent / "references" / "nvidia_mel.npz"


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE) as file:
        return dict(file)


def librosa_log_mel(wave: np.ndarray, config: AudioConfig) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=wave,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        power=1.0,
        center=True,
        pad_mode="reflect",
    )
    return np.log(np.maximum(mel, 1e-5))


def test_log_mel_equals_nvidias(reference):
    mel = log_mel(reference["wave"])
    assert mel.shape == (1, 80, 87)
    np.testing.assert_allclose(mel[0].numpy(), reference["log_mel"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        AudioConfig(),
        AudioConfig(n_mels=40, f_min=50.0, f_max=7600.0),
        AudioConfig(sample_rate=16000, n_fft=512, hop_length=160, win_length=400),
    ],
)
def test_log_mel_equals_librosas(reference, config):
    mel = log_mel(reference["wave"], config)[0].numpy()
    np.testing.assert_allclose(mel, librosa_log_mel(reference["wave"], config), atol=1e-4, rtol=0)


def test_log_mel_of_silence_is_its_floor():
    assert torch.allclose(log_mel(np.zeros(2048, np.float32)), torch.tensor(np.log(1e-5), dtype=torch.float32))


def test_log_mel_of_a_batch_is_that_of_each_wave(reference):
    wave = reference["wave"][:8192]
    both = log_mel(np.stack([wave, wave[::-1]]))
    assert torch.allclose(both[0], log_mel(wave)[0], atol=1e-5)
    assert torch.allclose(both[1], log_mel(wave[::-1].copy())[0], atol=1e-5)


def test_frame_t_is_centred_on_sample_t_hops():
    wave = np.zeros(256 * 20, np.float32)
    wave[256 * 9] = 1.0
    assert int(log_mel(wave)[0].sum(0).argmax()) == 9


def test_a_wave_too_short_for_a_frame_is_refused():
    with pytest.raises(AudioError, match="too few"):
        log_mel(np.zeros(512, np.float32))
