"""How loud, how clean and where: what a take's short frames say about its speech and its room.

Everything here is a pure function of one wave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .audio import SILENCE_DBFS, dbfs, resample
from .errors import AudioError

FRAME_SECONDS = 0.025  # long enough for one period of a deep voice, short enough for a consonant
HOP_SECONDS = 0.010
NOISE_PERCENTILE = 5  # of the frames: even a tightly cut sentence is that quiet between its words
SPEECH_PERCENTILE = 95  # the strong vowels, without being led by one loud click
CLICK_SECONDS = 0.06  # a shorter sound ...
CLICK_DISTANCE_SECONDS = 0.25  # ... this far from all speech is a mouse or a door, not a consonant

TARGET_LUFS = -23.0  # how loud clips, corpora and what is said shall be (EBU R 128; clean.CleanConfig says why)
LOUDNESS_BLOCK_SECONDS = 0.4  # ITU-R BS.1770 measures over blocks of this length
OVERSAMPLING = 4  # ITU-R BS.1770: finds peaks between samples to within 0.7 dB


@dataclass(frozen=True)
class Levels:
    """Levels of a take, measured over its frames."""

    peak_dbfs: float  # largest sample
    level_dbfs: float  # RMS of the frames in which somebody speaks
    noise_dbfs: float  # RMS of the quietest frames: the room
    loud_dbfs: float  # level of the strong vowels
    start: float  # s, where speech begins
    end: float  # s, where it ends; equal to start when nothing stands out of the room

    @property
    def snr_db(self) -> float:
        """Speech over room, in dB."""
        return self.level_dbfs - self.noise_dbfs

    @property
    def speech_seconds(self) -> float:
        """From the first sound of speech to the last, in seconds."""
        return self.end - self.start


def measure(wave: np.ndarray, sample_rate: int) -> Levels:
    """Measure a wave's levels and find where its speech lies.

    Parameters
    ----------
    wave : np.ndarray, shape (samples,)
        Full scale is 1; a constant offset is ignored.
    sample_rate : int
        Hz.

    Returns
    -------
    Levels
        With ``start == end`` when no speech stands out of the noise.
    """
    peak = float(dbfs(np.abs(wave).max(initial=0.0)))
    frames = frame_levels(wave, sample_rate)
    heard = frames[frames > SILENCE_DBFS + 1]  # digital silence tells nothing of the room
    if heard.size == 0:
        return Levels(peak, SILENCE_DBFS, SILENCE_DBFS, SILENCE_DBFS, 0.0, 0.0)
    noise, loud = (float(level) for level in np.percentile(heard, (NOISE_PERCENTILE, SPEECH_PERCENTILE)))
    spoken = frames[frames >= max((noise + loud) / 2, loud - 30)]
    level = float(10 * np.log10(np.mean(10 ** (spoken / 10))))
    start, end = _bounds(frames, noise, loud)
    return Levels(peak, level, noise, loud, start, min(end, len(wave) / sample_rate))


def loudness(wave: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of (samples,) in LUFS, by ITU-R BS.1770.

    Raises
    ------
    AudioError
        If the wave is shorter than the 0.4 s over which loudness is defined, or quieter than its gate.
    """
    from pyloudnorm import Meter

    seconds = len(wave) / sample_rate
    if seconds < LOUDNESS_BLOCK_SECONDS:
        raise AudioError(
            f"{seconds:.2f} s of speech are too short to measure loudness, which takes {LOUDNESS_BLOCK_SECONDS} s: "
            "record a whole sentence."
        )
    with np.errstate(divide="ignore"):
        level = float(Meter(sample_rate).integrated_loudness(np.asarray(wave, dtype=np.float64)))
    if not np.isfinite(level):
        raise AudioError("the speech is below -70 LUFS, where loudness is not defined: record it again, closer.")
    return level


def true_peak(wave: np.ndarray) -> float:
    """Highest peak of (samples,) in dBFS, also between the samples."""
    between = resample(np.asarray(wave, dtype=np.float32), 1, OVERSAMPLING)
    return float(dbfs(max(np.abs(between).max(initial=0), np.abs(wave).max(initial=0))))


def frame_levels(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """RMS of each frame in dBFS, (frames,); frame t begins at ``t * HOP_SECONDS``."""
    length = max(1, round(FRAME_SECONDS * sample_rate))
    hop = max(1, round(HOP_SECONDS * sample_rate))
    wave = np.pad(wave.astype(np.float64) - np.mean(wave), (0, max(0, length - len(wave))))
    energy = np.concatenate([[0.0], np.cumsum(wave**2)])  # a frame's energy is the difference of two of these
    starts = np.arange(0, len(wave) - length + 1, hop)
    mean_square = np.maximum(energy[starts + length] - energy[starts], 0) / length
    return dbfs(np.sqrt(mean_square))


def runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Begins and ends (exclusive) of the stretches of True in a mask of shape (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2]


def _bounds(frames: np.ndarray, noise: float, loud: float) -> tuple[float, float]:
    """First and last moment of speech in seconds, (0, 0) when there is none.

    The threshold stands 6 dB above the room: the levels of frames of steady noise spread by about 1 dB. Sounds more
    than 45 dB below the vowels are breath and cloth however quiet the room is.
    """
    if loud - noise < 6:
        return 0.0, 0.0
    threshold = max(noise + min(6.0, (loud - noise) / 2), loud - 45)
    begins, ends = runs(frames > threshold)
    if begins.size == 0:
        return 0.0, 0.0
    long = ends - begins >= CLICK_SECONDS / HOP_SECONDS
    if not long.any():
        return 0.0, 0.0
    gaps = np.maximum(begins[:, None] - ends[None, long], begins[None, long] - ends[:, None])  # (runs, long runs)
    speech = gaps.min(axis=1) < CLICK_DISTANCE_SECONDS / HOP_SECONDS  # negative for the long runs themselves
    return float(begins[speech][0] * HOP_SECONDS), float((ends[speech][-1] - 1) * HOP_SECONDS + FRAME_SECONDS)
