"""The vocoder that needs no weights: phases found by going back and forth between wave and spectrogram."""

from __future__ import annotations

import numpy as np
import torch

from ..audio import AudioConfig
from .base import Vocoder


class GriffinLim(Vocoder):
    """Fast Griffin-Lim (Perraudin et al. 2013), through librosa.

    Parameters
    ----------
    audio : AudioConfig
        The mel spectrogram that it will be given.
    iterations : int
        More sound less hollow; past 32 little is gained.
    """

    name = "griffin_lim"

    def __init__(self, audio: AudioConfig = AudioConfig(), *, iterations: int = 32) -> None:
        self.audio = audio
        self.iterations = iterations

    def _speak(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, n_mels, frames) -> (batch, (frames - 1) * hop_length)."""
        return torch.from_numpy(np.stack([self._speak_one(one) for one in mel.cpu().numpy()]))

    def _speak_one(self, mel: np.ndarray) -> np.ndarray:
        """(n_mels, frames) -> (samples,)."""
        import librosa

        audio = self.audio
        magnitude = librosa.feature.inverse.mel_to_stft(
            np.exp(mel), sr=audio.sample_rate, n_fft=audio.n_fft, power=1.0, fmin=audio.f_min, fmax=audio.f_max
        )  # (n_mels, frames) -> (n_fft // 2 + 1, frames)
        wave = librosa.griffinlim(
            magnitude,
            n_iter=self.iterations,
            hop_length=audio.hop_length,
            win_length=audio.win_length,
            n_fft=audio.n_fft,
            random_state=0,  # the same spectrogram always sounds the same
        )
        return wave / max(1.0, float(np.abs(wave).max(initial=0.0)))
