"""Sounds whose levels and times are known, for tests that need more than one recording can show."""

from __future__ import annotations

import numpy as np

RATE = 22050


def talk(
    seconds: float = 3.0,
    *,
    rate: int = RATE,
    level: float = -20.0,
    noise: float = -65.0,
    before: float = 0.5,
    after: float = 0.5,
    seed: int = 0,
) -> np.ndarray:
    """Four syllables a second of a 120 Hz voice in a noisy room, with a short pause; (samples,) float32.

    The syllables' RMS is `level` and the room's `noise`, in dBFS; speech lasts from `before` to `before + seconds`.
    """
    t = np.arange(round(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * t + k * k) / k for k in range(1, 25))  # phases that keep the crest low
    voice *= 0.25 + 0.75 * np.abs(np.sin(np.pi * 4 * t + 0.4))
    voice *= 10 ** (level / 20) / np.sqrt(np.mean(voice**2))
    if seconds >= 1:
        voice[(t > seconds / 2 - 0.1) & (t < seconds / 2 + 0.1)] = 0
    padded = np.pad(voice, (round(before * rate), round(after * rate)))
    room = np.random.default_rng(seed).normal(size=padded.shape) * 10 ** (noise / 20)
    return (padded + room).astype(np.float32)
