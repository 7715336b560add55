"""Vocoders: from log-mel spectrogram to sound, behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..download import fetch, is_elsewhere
from ..errors import VoiceCloneError
from .base import Vocoder

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["NAMES", "Vocoder", "load_vocoder", "vocode"]

NAMES = ("hifigan", "griffin_lim", "waveglow")


def load_vocoder(
    name: str = "hifigan",
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    denoise: float = 0.0,
) -> Vocoder:
    """Make a vocoder ready to speak.

    Parameters
    ----------
    name : str
        ``"hifigan"``: the best sound; ``"griffin_lim"``: needs no weights, sounds hollow; ``"waveglow"``: for
        NVIDIA's checkpoints, much slower than HiFi-GAN. Weights may be named after a colon, as in
        ``"waveglow:weights/waveglow_256channels_universal_v5.pt"``.
    path : str or Path, optional
        A HiFi-GAN generator (``g_02500000``); without it the authors' universal one is used. For WaveGlow, which
        needs it, a checkpoint such as ``waveglow_256channels_universal_v5.pt``. A URL or a known name, as in
        ``"waveglow:waveglow"``, is fetched first (`voiceclone.download`).
    device : str or torch.device
        Where to compute.
    denoise : float
        For WaveGlow: how much to take away of what the model adds to every sound. NVIDIA begins with 0.1.

    Raises
    ------
    VoiceCloneError
        If the name is unknown, or the vocoder takes no weights or has no denoiser and was given such.
    CheckpointError
        If the weights are missing or another model's.
    """
    if path is None and ":" in name:
        name, _, path = name.partition(":")
    if name not in NAMES:
        raise VoiceCloneError(f"There is no vocoder {name!r}. Choose one of: {', '.join(NAMES)}.")
    if denoise and not (denoise > 0 and name == "waveglow"):
        raise VoiceCloneError(
            f"denoise={denoise} was given to {name}; expected 0 or more, and WaveGlow: no other has a denoiser. "
            "Leave it out, or speak with waveglow:FILE."
        )
    if path is not None and is_elsewhere(path):
        path = fetch(path).path
    if name == "griffin_lim":
        if path is not None:
            raise VoiceCloneError(f"griffin_lim has no weights to load from {path}. Leave it out, or use hifigan.")
        from .griffin_lim import GriffinLim

        return GriffinLim()
    if name == "hifigan":
        from .hifigan import load_hifigan as load
    else:
        from .waveglow import load_waveglow as load

    vocoder = load(path, device=device)
    if denoise:
        vocoder.strength = denoise
    if path is not None:
        vocoder.name = f"{name}:{path}"
    return vocoder


def vocode(vocoder: Vocoder, mel: np.ndarray | torch.Tensor) -> np.ndarray:
    """Speak one spectrogram of `voiceclone.audio.log_mel`, in time with it.

    HiFi-GAN's frame t describes the sound around sample ``t * hop + hop / 2``, `log_mel`'s frame t the sound around
    ``t * hop``. Fed with the latter it therefore says everything half a hop late, and nothing else changes. So the
    conversion is exact on the side of the wave, where that half hop is cut off; shifting the frames instead
    would mean to average neighbours, which blurs them.

    Parameters
    ----------
    vocoder : Vocoder
        From `load_vocoder`.
    mel : np.ndarray or torch.Tensor, shape (n_mels, frames)
        Frame t is centred on sample ``t * hop_length``.

    Returns
    -------
    np.ndarray, shape ((frames - 1) * hop_length,)
        float32 at ``vocoder.audio.sample_rate``, within [-1, 1]; sample ``t * hop_length`` belongs to frame t.
    """
    import torch

    mel = torch.as_tensor(mel)
    samples = (mel.shape[-1] - 1) * vocoder.audio.hop_length
    wave = vocoder(mel.unsqueeze(0))[0].clamp(-1.0, 1.0).numpy()
    return wave[vocoder.frame_delay : vocoder.frame_delay + samples]
