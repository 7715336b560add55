"""Envelope and pitch apart: a frame as a few cepstral coefficients, and the harmonics that a pitch draws into it.

Squared error turns a pitch that is not quite certain into a spectrum without harmonics, which sounds hoarse. A mean
pitch, on the other hand, is still a pitch. So a small model says the envelope and the pitch, and its postnet draws
the harmonics where that pitch has them (the source and the filter of Fant 1960; pitch given to the decoder as in
Lancucki 2021, "FastPitch").
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import nn

from ..audio import AudioConfig

CENTRE = math.log(180.0)  # of log pitch, between usual voices of men and women
SPREAD = 0.35  # of log pitch; both make what is learned about 0 and 1
LOWEST, HIGHEST = 50.0, 600.0  # Hz
TABLE_SIZE = 400  # pitches, evenly in their logarithm


def to_model(pitch: torch.Tensor) -> torch.Tensor:
    """Hz to the units in which pitch is learned; unvoiced frames (0 Hz) become 0."""
    return torch.where(pitch > 0, (pitch.clamp(min=LOWEST).log() - CENTRE) / SPREAD, 0.0)


def to_hertz(predicted: torch.Tensor) -> torch.Tensor:
    """What the decoder says, (batch, 2, frames) of pitch and voicing's logit, as Hz (batch, frames); unvoiced 0."""
    pitch = torch.exp(predicted[:, 0].float() * SPREAD + CENTRE).clamp(LOWEST, HIGHEST)
    return torch.where(predicted[:, 1] > 0, pitch, 0.0)


class Envelope(nn.Module):
    """The first coefficients of a cosine transform over the bands: what is left without them is the harmonics."""

    def __init__(self, order: int, n_mels: int) -> None:
        super().__init__()
        places = (torch.arange(n_mels) + 0.5) / n_mels
        basis = math.sqrt(2 / n_mels) * torch.cos(math.pi * torch.arange(order).unsqueeze(1) * places)
        basis[0] /= math.sqrt(2)
        self.register_buffer("basis", basis, persistent=False)  # (order, n_mels), orthonormal
        self.register_buffer("gain", torch.ones(order, 1))  # of what is spoken, by coefficient; see `enliven`

    def analyse(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, n_mels, frames) -> (batch, order, frames)."""
        return self.basis @ mel

    def draw(self, coefficients: torch.Tensor) -> torch.Tensor:
        """(batch, order, frames) -> (batch, n_mels, frames)."""
        return self.basis.t() @ coefficients

    def enliven(self, coefficients: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Widen how far each coefficient strays from its mean over a sentence, by `gain`.

        What a network predicts strays less than what people say, and so sounds muffled (Toda and Tokuda 2007,
        "global variance"; the scaling is that of Silen et al. 2012).

        Parameters
        ----------
        coefficients : torch.Tensor, shape (batch, order, frames)
        inside : torch.Tensor, shape (batch, 1, frames)
            True on the frames of each sentence; the others become 0.
        """
        mean = (coefficients * inside).sum(2, keepdim=True) / inside.sum(2, keepdim=True).clamp(min=1)
        return (mean + self.gain * (coefficients - mean)) * inside


class Harmonics(nn.Module):
    """Where a pitch has its harmonics among the mel bands."""

    def __init__(self, envelope: Envelope) -> None:
        super().__init__()
        order, n_mels = envelope.basis.shape
        self.register_buffer("table", _table(order, n_mels).clone(), persistent=False)  # (TABLE_SIZE, n_mels)

    def forward(self, pitch: torch.Tensor) -> torch.Tensor:
        """(batch, frames) Hz, 0 where unvoiced -> (batch, n_mels + 1, frames): the pattern, and 1 where voiced."""
        voiced = (pitch > 0).float().unsqueeze(1)
        place = torch.log(pitch.clamp(LOWEST, HIGHEST) / LOWEST) / math.log(HIGHEST / LOWEST) * (TABLE_SIZE - 1)
        below = place.floor().long().clamp(max=TABLE_SIZE - 2)
        pattern = torch.lerp(self.table[below], self.table[below + 1], (place - below).unsqueeze(2))
        return torch.cat((pattern.transpose(1, 2) * voiced, voiced), 1)


@cache
def _table(order: int, n_mels: int) -> torch.Tensor:
    """Log-mels of pulse trains without their envelope, of deviation 1; (TABLE_SIZE, n_mels)."""
    import librosa

    envelope, audio = Envelope(order, n_mels), AudioConfig(n_mels=n_mels)
    filters = librosa.filters.mel(
        sr=audio.sample_rate, n_fft=audio.n_fft, n_mels=audio.n_mels, fmin=audio.f_min, fmax=audio.f_max
    )
    window = np.hanning(audio.n_fft + 1)[:-1]
    time = np.arange(audio.n_fft) / audio.sample_rate
    patterns = []
    for pitch in np.geomspace(LOWEST, HIGHEST, TABLE_SIZE):
        numbers = np.arange(1, int(audio.f_max / pitch) + 1)
        # Quadratic phases spread the pulses, so that no frame depends on where in a period it begins.
        pulses = np.cos(2 * np.pi * pitch * numbers * time[:, None] + 2.0 * numbers**2).sum(1)
        patterns.append(np.log(filters @ np.abs(np.fft.rfft(pulses * window)) + 1e-5))
    log_mel = torch.tensor(np.array(patterns), dtype=torch.float32).t()  # (n_mels, TABLE_SIZE)
    detail = log_mel - envelope.draw(envelope.analyse(log_mel))
    return (detail / detail.std()).t().contiguous()
