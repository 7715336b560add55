"""Pitch is found where it is known: in tones, glides and pauses, frame for frame as the log-mel has them."""

from __future__ import annotations

import numpy as np
import pytest

from voiceclone.audio import AudioConfig, log_mel
from voiceclone.pitch import track_pitch

RATE = 22050
HOP = 256


def a_voice(pitch: np.ndarray) -> np.ndarray:
    """A buzz of this pitch (samples,) in Hz, its harmonics falling by 6 dB an octave as a voice's; (samples,)."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = sum(np.sin(k * phase + k * k) / k for k in range(1, int(8000 / pitch.max()) + 1))
    return (0.1 * wave).astype(np.float32)


@pytest.mark.parametrize("pitch", [75, 110, 220, 330, 450])
def test_a_tone_has_its_pitch_in_every_frame(pitch):
    found = track_pitch(a_voice(np.full(RATE, float(pitch))))
    np.testing.assert_allclose(found[2:-2], pitch, rtol=0.02)  # the first and last frames hold half a tone


def test_a_glide_is_followed_frame_by_frame():
    pitch = np.geomspace(100, 300, 2 * RATE)
    found = track_pitch(a_voice(pitch))
    frames = np.arange(4, len(found) - 4)
    np.testing.assert_allclose(found[frames], pitch[frames * HOP], rtol=0.03)


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.1])
def test_silence_and_noise_have_no_pitch(level):
    noise = np.random.default_rng(0).normal(size=2 * RATE) * level
    assert not track_pitch(noise.astype(np.float32)).any()


def test_voice_between_pauses_has_pitch_there_and_nowhere_else():
    wave = a_voice(np.full(3 * RATE, 150.0))
    wave[:RATE] = wave[2 * RATE :] = 0.0
    found = track_pitch(wave + np.random.default_rng(0).normal(size=len(wave)).astype(np.float32) * 1e-4)
    voiced = np.flatnonzero(found)
    assert voiced[0] == pytest.approx(RATE / HOP, abs=3)
    assert voiced[-1] == pytest.approx(2 * RATE / HOP, abs=3)
    assert (np.diff(voiced) == 1).all()


@pytest.mark.parametrize("samples", [513, 1000, 2047, 2048, 22049, 22050, 22271, 22272, 22273, 40001])
def test_there_are_as_many_frames_as_in_the_log_mel(samples):
    wave = a_voice(np.full(samples, 200.0))
    found = track_pitch(wave)
    assert found.shape == (log_mel(wave).shape[2],)
    assert found.dtype == np.float32


def test_other_sizes_of_frames_are_kept_too():
    config = AudioConfig(sample_rate=16000, n_fft=512, hop_length=160, win_length=400)
    wave = a_voice(np.full(RATE, 200.0))  # at 16 kHz lower: 145 Hz
    found = track_pitch(wave, config)
    assert len(found) == log_mel(wave, config).shape[2]
    np.testing.assert_allclose(found[4:-4], 200 * 16000 / RATE, rtol=0.02)
