"""The pitch of speech, frame by frame."""

from __future__ import annotations

import numpy as np

from .audio import AudioConfig, resample

LOWEST, HIGHEST = 60.0, 500.0  # Hz; men, women and children when they read
HALVED = 2  # the rate at which pitch is looked for: half the sound's, since it lies low and costs time
WINDOW = 512  # samples at that rate: 46 ms, close to the log-mel's


def track_pitch(wave: np.ndarray, config: AudioConfig = AudioConfig()) -> np.ndarray:
    """Find the pitch in each frame of `voiceclone.audio.log_mel`.

    Probabilistic YIN (Mauch and Dixon 2014), librosa's.

    Parameters
    ----------
    wave : np.ndarray, shape (samples,)
        At ``config.sample_rate``.
    config : AudioConfig

    Returns
    -------
    np.ndarray, shape (frames,)
        Hz, float32; 0 where the voice has no pitch.
    """
    import librosa

    frames = len(wave) // config.hop_length + 1
    rate = config.sample_rate // HALVED
    pitch, voiced, _ = librosa.pyin(
        np.pad(resample(wave, config.sample_rate, rate), (0, WINDOW)),
        fmin=LOWEST,
        fmax=HIGHEST,
        sr=rate,
        frame_length=WINDOW,
        hop_length=config.hop_length // HALVED,
        resolution=0.2,  # semitones; finer costs four times the time
        fill_na=None,
    )
    return np.where(voiced, pitch, 0.0)[:frames].astype(np.float32)
