"""Who is speaking: embeddings of voices and how alike two of them are.

The encoder is GE2E (Wan et al. 2018) with Resemblyzer's weights, which are used as data. Its ears are its own, and
differ from `voiceclone.audio.log_mel`: 16 kHz, 40 bands, power instead of magnitude, no logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import nn

from .audio import dbfs, resample
from .errors import AudioError
from .files import package_file

WEIGHTS = ("resemblyzer", "pretrained.pt", "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e")
SAMPLE_RATE = 16000  # Hz
HOP_LENGTH = 160  # samples: 10 ms
WINDOW_LENGTH = 400  # samples: 25 ms
N_MELS = 40
SIZE = 256  # of the embedding and of each LSTM layer
PART = 160  # frames heard at once: 1.6 s
PART_STEP = 77  # frames from one part to the next: 1.3 parts a second
LEAST_COVERAGE = 0.75  # of the last part that must be sound, else it is left out
TARGET_DBFS = -30.0  # quieter waves are raised to it

SILENCE_WINDOW = 480  # samples: 30 ms
SILENCE_BELOW = 40.0  # dB under the loud parts (95th percentile) counts as silence
SILENCE_KEPT = 4  # windows of silence left on each side of speech: 0.12 s


class SpeakerEncoder(nn.Module):
    """Three LSTM layers over mel frames; the last state of the last one is the voice."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_MELS, SIZE, num_layers=3, batch_first=True)
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """(parts, frames, n_mels) -> (parts, 256), each of length 1 with no negative values."""
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)


@cache
def _encoder() -> SpeakerEncoder:
    state = torch.load(package_file(*WEIGHTS), map_location="cpu", weights_only=True)["model_state"]
    encoder = SpeakerEncoder()
    encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})  # the rest served its training
    return encoder.eval()


def embed(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Embed the voice that is heard in a wave.

    Long pauses and the silence at both ends are left out, so the embedding does not depend on them. It does depend
    on the level above -30 dBFS (the encoder was trained so): compare waves of about the same loudness.

    Parameters
    ----------
    wave : np.ndarray, shape (samples,)
        Full scale 1. A second and a half or more says most; less is padded with silence.
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray, shape (256,)
        float32, length 1: the mean over parts of 1.6 s.

    Raises
    ------
    AudioError
        If the wave is empty, silent, or holds values that are not numbers.
    """
    wave = np.asarray(wave, dtype=np.float32)
    if wave.ndim != 1 or not wave.any() or not np.isfinite(wave).all():
        silent = wave.size > 0 and not wave.any()
        state = "is silent" if silent else "is empty, not mono or not numbers throughout"
        raise AudioError(f"The wave of shape {wave.shape} {state}. Expected (samples,) of speech.")
    wave = trim_silence(_raise_level(resample(wave, sample_rate, SAMPLE_RATE)))
    with torch.inference_mode():
        parts = _encoder()(torch.from_numpy(_parts(wave)))
    return mean_embedding(parts.numpy())


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two embeddings (256,), from 0 to 1.

    How much is alike depends on the voice: compare with the likeness of its natural clips to each other.
    """
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def likeness_to(speaker: np.ndarray, wave: np.ndarray, sample_rate: int) -> float:
    """Likeness of the voice in a wave (samples,) to an embedding (256,); silence is like nobody."""
    return likeness(embed(wave, sample_rate), speaker) if np.any(wave) else 0.0


def mean_embedding(embeddings: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Mean of (count, 256) embeddings, of length 1 again: one voice heard in several clips.

    Raises
    ------
    AudioError
        If there are none.
    """
    if len(embeddings) == 0:
        raise AudioError("No embeddings to average: the voice has no clips. Clean at least one clip first.")
    mean = np.mean(embeddings, axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def trim_silence(wave: np.ndarray) -> np.ndarray:
    """Leave out what is 40 dB or more under the loud parts for longer than a quarter of a second, at 16 kHz.

    The sound around speech is kept for 0.12 s, so short gaps between words stay whole.
    """
    count = len(wave) // SILENCE_WINDOW
    if count == 0:
        return wave
    windows = wave[: count * SILENCE_WINDOW].reshape(count, SILENCE_WINDOW)
    level = dbfs(np.sqrt(np.mean(windows**2, axis=1)))
    speech = level > np.percentile(level, 95) - SILENCE_BELOW
    near = np.convolve(speech, np.ones(2 * SILENCE_KEPT + 1), mode="full")[SILENCE_KEPT : SILENCE_KEPT + count] > 0.5
    kept = np.repeat(near, SILENCE_WINDOW)
    rest = np.full(len(wave) - len(kept), near[-1])  # the last, incomplete window
    return wave[np.concatenate([kept, rest])]


def _raise_level(wave: np.ndarray) -> np.ndarray:
    change = TARGET_DBFS - dbfs(np.sqrt(np.mean(wave**2)))
    return wave * np.float32(10 ** (max(change, 0.0) / 20))


def _parts(wave: np.ndarray) -> np.ndarray:
    """(samples,) at 16 kHz -> (parts, 160, 40): mel frames of overlapping parts, the last padded with silence."""
    import librosa

    frames = len(wave) // HOP_LENGTH + 1
    starts = list(range(0, max(1, frames - PART + PART_STEP + 1), PART_STEP))
    sound_in_last = (len(wave) - starts[-1] * HOP_LENGTH) / (PART * HOP_LENGTH)
    if len(starts) > 1 and sound_in_last < LEAST_COVERAGE:
        starts.pop()
    wave = np.pad(wave, (0, max(0, (starts[-1] + PART) * HOP_LENGTH - len(wave))))
    mel = librosa.feature.melspectrogram(
        y=wave, sr=SAMPLE_RATE, n_fft=WINDOW_LENGTH, hop_length=HOP_LENGTH, n_mels=N_MELS
    ).T  # (n_mels, frames) -> (frames, n_mels)
    return np.stack([mel[start : start + PART] for start in starts]).astype(np.float32)
