"""What every vocoder is: log-mel spectrogram in, wave out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ..audio import AudioConfig
from ..errors import AudioError

if TYPE_CHECKING:
    import torch


class Vocoder(ABC):
    """Turns (batch, n_mels, frames) log-mels into (batch, samples) waves.

    Attributes
    ----------
    name : str
        What `load_vocoder` calls it.
    audio : AudioConfig
        The mel spectrogram that it understands.
    frame_delay : int
        Samples by which the centre of its frame t lies after sample ``t * hop_length``: 0 where frames are
        centred as `voiceclone.audio.log_mel` centres them.
    """

    name: str
    audio: AudioConfig
    frame_delay: int = 0

    def __call__(self, mel: torch.Tensor) -> torch.Tensor:
        """Speak a batch of spectrograms.

        Parameters
        ----------
        mel : torch.Tensor, shape (batch, n_mels, frames)
            Natural logarithm of mel magnitudes, framed as the vocoder's `frame_delay` says.

        Returns
        -------
        torch.Tensor, shape (batch, samples)
            float32 on the CPU; full scale is 1, which WaveGlow's loudest samples may pass (`vocode` cuts them).

        Raises
        ------
        AudioError
            If the shape is another, or the spectrogram holds values that are not numbers.
        """
        return self._speak(self._checked(mel)).float().cpu()

    def _checked(self, mel: torch.Tensor) -> torch.Tensor:
        """Return the spectrogram as float32, or say why it cannot be spoken."""
        if mel.ndim != 3 or mel.shape[1] != self.audio.n_mels or mel.shape[2] == 0:
            raise AudioError(
                f"{self.name} was given a spectrogram of shape {tuple(mel.shape)}; "
                f"expected (batch, {self.audio.n_mels} mel bands, 1 or more frames)."
            )
        if not mel.isfinite().all():
            raise AudioError(
                f"{self.name} was given a spectrogram with values that are not numbers. "
                "Speak from an earlier checkpoint: the training of this one has diverged."
            )
        return mel.float()

    @abstractmethod
    def _speak(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, n_mels, frames) float32, checked -> (batch, samples)."""
