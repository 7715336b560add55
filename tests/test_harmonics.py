"""Envelope and harmonics come apart and together: held to scipy's cosine transform and to real pulse trains."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.fft
import torch

from voiceclone.audio import log_mel
from voiceclone.tacotron2.harmonics import (
    CENTRE,
    HIGHEST,
    LOWEST,
    SPREAD,
    Envelope,
    Harmonics,
    to_hertz,
    to_model,
)

RATE = 22050
BANDS = librosa.mel_frequencies(82, fmin=0, fmax=8000)[1:-1]  # Hz, where each of the 80 bands is highest


@pytest.fixture(scope="module")
def envelope() -> Envelope:
    return Envelope(20, 80)


@pytest.fixture(scope="module")
def harmonics(envelope) -> Harmonics:
    return Harmonics(envelope)


def pulses(pitch: float, *, tilt: float) -> np.ndarray:
    """A second of the band-limited pulse train of a pitch, its harmonics falling with their number to `tilt`."""
    numbers = np.arange(1, int(RATE / 2 / pitch) + 1)
    time = np.arange(RATE) / RATE
    wave = (np.cos(2 * np.pi * pitch * numbers[:, None] * time) / numbers[:, None] ** tilt).sum(0)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def detail(wave: np.ndarray) -> np.ndarray:
    """What is left of the mean log-mel of a wave without the slow part of its spectrum, by scipy; (80,)."""
    mel = log_mel(wave)[0, :, 8:-8].mean(1).numpy()
    coefficients = scipy.fft.dct(mel, norm="ortho")
    coefficients[:20] = 0
    return scipy.fft.idct(coefficients, norm="ortho")


def pattern(harmonics: Harmonics, pitch: float) -> np.ndarray:
    return harmonics(torch.tensor([[pitch]]))[0, :80, 0].numpy()


# The envelope -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "n_mels"), [(1, 80), (20, 80), (80, 80), (12, 40)])
def test_the_envelope_is_scipys_cosine_transform_cut_short(order, n_mels):
    mel = torch.randn(2, n_mels, 7, generator=torch.Generator().manual_seed(0))
    expected = scipy.fft.dct(mel.numpy(), axis=1, norm="ortho")[:, :order]
    np.testing.assert_allclose(Envelope(order, n_mels).analyse(mel), expected, atol=1e-4)


def test_coefficients_that_were_drawn_are_found_again(envelope):
    coefficients = torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(envelope.analyse(envelope.draw(coefficients)), coefficients, atol=1e-5, rtol=0)
    torch.testing.assert_close(envelope.basis @ envelope.basis.t(), torch.eye(20), atol=1e-5, rtol=0)


def test_drawing_a_mels_envelope_is_a_projection(envelope):
    mel = torch.randn(3, 80, 5, generator=torch.Generator().manual_seed(0))
    once = envelope.draw(envelope.analyse(mel))
    torch.testing.assert_close(envelope.draw(envelope.analyse(once)), once, atol=1e-5, rtol=0)
    assert ((mel - once) * once).sum(1).abs().max() < 1e-4  # what is left over has nothing of it
    assert (mel - once).square().sum() > 0.5 * mel.square().sum()  # 60 of 80 directions of noise


# The harmonics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tilt", [0.0, 1.0], ids=["flat", "like a voice"])
@pytest.mark.parametrize("pitch", [75.0, 110.0, 150.0, 220.0, 330.0, 450.0])
def test_the_pattern_is_that_of_a_pulse_train_without_its_envelope(harmonics, pitch, tilt):
    truth = detail(pulses(pitch, tilt=tilt))
    assert np.corrcoef(pattern(harmonics, pitch), truth)[0, 1] > 0.98
    for other in (0.9, 1.1):  # a sixth of an octave beside it, the pattern is another
        assert np.corrcoef(pattern(harmonics, other * pitch), truth)[0, 1] < 0.5


@pytest.mark.parametrize("pitch", [150.0, 220.0, 330.0])  # higher ones share what is left with the envelope
def test_the_pattern_peaks_at_the_bands_of_the_harmonics(harmonics, pitch):
    found = pattern(harmonics, pitch)
    peaks = BANDS[1:-1][(found[1:-1] > found[:-2]) & (found[1:-1] > found[2:])]
    numbers = np.arange(1, int(1000 / pitch) + 1)
    # Bands are 37 Hz apart up to 1 kHz, so that a peak may lie that far from its harmonic.
    assert max(np.abs(peaks - harmonic).min() for harmonic in pitch * numbers) < 38
    at, between = (np.interp(pitch * (numbers + shift), BANDS, found) for shift in (0, 0.5))
    assert at.min() > max(0, between.max())


def test_the_pattern_changes_gradually_with_pitch(harmonics):
    patterns = harmonics(torch.linspace(100, 101, 21).unsqueeze(0))[0, :80]
    steps = patterns.diff(dim=1).square().mean(0).sqrt()
    assert 0 < steps.min() and steps.max() < 0.02  # of a pattern whose deviation is about 1


def test_unvoiced_frames_have_no_harmonics(harmonics):
    pitch = torch.tensor([[0.0, 120.0, 0.0], [200.0, 0.0, 300.0]])
    drawn = harmonics(pitch)
    assert drawn.shape == (2, 81, 3)
    assert torch.equal(drawn[:, 80], (pitch > 0).float())
    assert torch.equal(drawn.abs().sum(1) > 0, pitch > 0)


@pytest.mark.parametrize(("pitch", "limit"), [(20.0, LOWEST), (1500.0, HIGHEST)])
def test_a_pitch_beyond_all_voices_is_drawn_as_the_last_one(harmonics, pitch, limit):
    np.testing.assert_array_equal(pattern(harmonics, pitch), pattern(harmonics, limit))


# Units ------------------------------------------------------------------------------------------------------------


def test_what_is_learned_of_pitch_can_be_turned_back():
    pitch = torch.tensor([[60.0, 0.0, 123.4, 180.0, 0.0, 499.0]])
    said = torch.stack((to_model(pitch), torch.where(pitch > 0, 3.0, -3.0)), 1)
    torch.testing.assert_close(to_hertz(said), pitch)


def test_units_are_about_one_over_the_voices_that_there_are():
    pitch = torch.tensor([np.exp(CENTRE), np.exp(CENTRE + SPREAD), np.exp(CENTRE - SPREAD), 0.0]).float()
    torch.testing.assert_close(to_model(pitch), torch.tensor([0.0, 1.0, -1.0, 0.0]), atol=1e-5, rtol=0)
    assert to_model(torch.tensor([85.0, 300.0])).abs().max() < 2.5


def test_whatever_is_said_is_a_pitch_that_can_be_drawn():
    said = torch.tensor([[[-1e3, 1e3, 0.0, 0.0], [1.0, 1.0, 0.0, -5.0]]])
    assert to_hertz(said).tolist() == [[LOWEST, HIGHEST, 0.0, 0.0]]
