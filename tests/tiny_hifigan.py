"""What the tests of HiFi-GAN's fine-tuning share: tiny settings, a tiny generator, and a sound to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from voiceclone.audio import AudioConfig, log_mel
from voiceclone.vocoders.aligned import AlignedClip

HOP = AudioConfig().hop_length
SMALL = dict(narrower=8, batch_size=2, piece=6, device="cpu")


def tiny_weights() -> dict[str, torch.Tensor]:
    """Those of a tiny generator, under the authors' names."""
    with np.load(Path(__file__).parent / "references" / "hifigan.npz") as file:
        return {k.removeprefix("weights/"): torch.from_numpy(file[k]) for k in file if k.startswith("weights/")}


def buzz(seconds: float = 0.6) -> np.ndarray:
    """(samples,) of 110 Hz and its harmonics, which swells and fades."""
    time = np.arange(int(seconds * 22050)) / 22050
    sound = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 30))
    return (0.2 * sound * np.sin(np.pi * time / seconds) ** 2).astype(np.float32)


def clip_of(wave: np.ndarray, name: str = "0001") -> AlignedClip:
    return AlignedClip(name, log_mel(wave)[0], wave)
