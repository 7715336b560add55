"""From takes to clips: high-pass, optional denoising, trim, loudness, 22,050 Hz.

`clean_wave` does it to one wave and is pure; `clean` maps it over a voice's takes, several at once, and skips what is
unchanged. `dataset_report`, in `voiceclone.report`, says what the clips together are worth.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .audio import AudioConfig, load, resample, save
from .errors import AudioError, VoiceError
from .files import text_hash
from .levels import TARGET_LUFS, loudness, measure, true_peak
from .report import DatasetReport, dataset_report

if TYPE_CHECKING:
    from .voice import Clip, Voice

__all__ = ["CleanConfig", "CleanRecord", "CleanResult", "DatasetReport", "clean", "clean_wave", "dataset_report"]

METHOD = 1  # raise it when the same settings give another sound: clips are then made anew
HIGHPASS_ORDER = 4  # run forwards and backwards: 8th order in effect, and no delay
FADE_SECONDS = 0.005  # at both ends: a cut through room noise would click
CLIPS_PER_WORKER = 40  # starting a process and its imports costs about as much as cleaning so many clips


@dataclass(frozen=True)
class CleanConfig:
    """How takes become clips.

    -23 LUFS is broadcasting's level (EBU R 128). It also is about the loudest that speech can be without limiting:
    its peaks stand 15 to 21 dB above its loudness, so at -23 LUFS nearly every sentence stays below -1 dBFS untouched,
    and all clips come out equally loud.
    """

    target_lufs: float = TARGET_LUFS  # integrated loudness, ITU-R BS.1770
    true_peak_dbfs: float = -1.0  # no peak above it, also between the samples (EBU R 128)
    margin_seconds: float = 0.05  # of room kept before and after the speech
    highpass_hz: float = 60.0  # rumble and handling noise lie below, the deepest voices above; 0 leaves it out
    denoise: bool = False  # spectral gating by noisereduce; a quiet room needs none
    denoise_strength: float = 0.8  # share of the noise that is taken away, 0 to 1

    def __post_init__(self) -> None:
        if not (-70 < self.target_lufs < 0 and self.true_peak_dbfs <= 0):
            raise AudioError(
                f"target_lufs={self.target_lufs} must lie between -70 and 0, and true_peak_dbfs={self.true_peak_dbfs} "
                "at 0 or below; -23 and -1 are usual."
            )
        if not (0 <= self.margin_seconds <= 1 and 0 <= self.highpass_hz <= 300 and 0 <= self.denoise_strength <= 1):
            raise AudioError(
                f"margin_seconds={self.margin_seconds} must be 0 to 1, highpass_hz={self.highpass_hz} 0 to 300 and "
                f"denoise_strength={self.denoise_strength} 0 to 1."
            )


@dataclass(frozen=True)
class CleanRecord:
    """What cleaning did to one take."""

    seconds_before: float
    seconds_after: float
    lufs_before: float  # of the trimmed speech, before the gain
    lufs_after: float
    gain_db: float
    held_back_db: float  # gain that was not given, since a peak would have passed true_peak_dbfs
    true_peak_dbfs: float
    snr_db: float  # speech over room, after high-pass and denoising


@dataclass(frozen=True)
class CleanResult:
    """What became of one clip."""

    id: str
    state: str  # "cleaned", "unchanged" (made earlier, with the same settings) or "failed"
    record: CleanRecord | None = None  # of a clip that was cleaned now
    problem: str = ""  # why it failed

    def as_dict(self) -> dict[str, object]:
        """One row of a table."""
        figures = {name: round(value, 2) for name, value in asdict(self.record).items()} if self.record else {}
        return {"id": self.id, "state": self.state, **figures, "problem": self.problem}


# One wave -------------------------------------------------------------------------------------------------------------


def clean_wave(
    wave: np.ndarray, sample_rate: int, config: CleanConfig = CleanConfig()
) -> tuple[np.ndarray, CleanRecord]:
    """Clean one take.

    Parameters
    ----------
    wave : np.ndarray, shape (samples,)
        The take, full scale is 1.
    sample_rate : int
        Hz.
    config : CleanConfig
        What to do.

    Returns
    -------
    wave : np.ndarray, shape (samples,)
        float32 at 22,050 Hz.
    record : CleanRecord
        What was done.

    Raises
    ------
    AudioError
        If there is no speech in it, or less than 0.4 s.
    """
    if wave.size == 0 or not np.isfinite(wave).all():
        raise AudioError(f"{wave.size} samples that are not all numbers cannot be cleaned: record the take again.")
    filtered = highpass(wave, sample_rate, config.highpass_hz)
    levels = measure(filtered, sample_rate)
    if levels.speech_seconds == 0:
        raise AudioError(f"no speech in it (peak {levels.peak_dbfs:.0f} dBFS): record the take again.")
    if config.denoise:
        filtered = _denoise(filtered, sample_rate, levels.start, levels.end, config.denoise_strength)
    rate = AudioConfig().sample_rate
    cut = _cut(filtered, sample_rate, levels.start - config.margin_seconds, levels.end + config.margin_seconds)
    speech = resample(cut.astype(np.float32), sample_rate, rate)
    before = loudness(speech, rate)
    wanted = config.target_lufs - before
    peak = true_peak(speech)
    gain = min(wanted, config.true_peak_dbfs - peak)
    cleaned = (speech * 10 ** (gain / 20)).astype(np.float32)
    record = CleanRecord(
        seconds_before=len(wave) / sample_rate,
        seconds_after=len(cleaned) / rate,
        lufs_before=before,
        lufs_after=before + gain,
        gain_db=gain,
        held_back_db=wanted - gain,
        true_peak_dbfs=peak + gain,
        snr_db=measure(filtered, sample_rate).snr_db if config.denoise else levels.snr_db,
    )
    return cleaned, record


def highpass(wave: np.ndarray, sample_rate: int, cutoff_hz: float) -> np.ndarray:
    """Take away what lies below `cutoff_hz`, without shifting anything in time; (samples,) -> (samples,)."""
    if cutoff_hz == 0:
        return wave
    from scipy.signal import butter, sosfiltfilt

    sections = butter(HIGHPASS_ORDER, cutoff_hz, "highpass", fs=sample_rate, output="sos")
    edge = min(len(wave) - 1, round(0.1 * sample_rate))  # mirrored at the ends, so that the filter starts settled
    return sosfiltfilt(sections, wave.astype(np.float64), padlen=edge)


def _denoise(wave: np.ndarray, sample_rate: int, start: float, end: float, strength: float) -> np.ndarray:
    """Gate each frequency by the noise heard before and after the speech; (samples,) -> (samples,)."""
    from noisereduce import reduce_noise

    room = np.concatenate([wave[: round(start * sample_rate)], wave[round(end * sample_rate) :]])
    sample = room if len(room) >= sample_rate // 4 else None  # without a quarter second of room, noise is guessed
    return reduce_noise(wave, sample_rate, stationary=True, y_noise=sample, prop_decrease=strength)


def _cut(wave: np.ndarray, sample_rate: int, start: float, end: float) -> np.ndarray:
    """The stretch from start to end in seconds, faded at both ends; where the take is shorter, silence is added."""
    first, last = round(start * sample_rate), round(end * sample_rate)
    piece = wave[max(first, 0) : last].copy()
    fade = min(round(FADE_SECONDS * sample_rate), len(piece) // 2)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade, endpoint=False)) ** 2
    piece[:fade] *= ramp
    piece[len(piece) - fade :] *= ramp[::-1]
    return np.pad(piece, (max(-first, 0), max(last - len(wave), 0)))


# A whole voice --------------------------------------------------------------------------------------------------------


def clean(
    voice: Voice,
    config: CleanConfig = CleanConfig(),
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CleanResult, ...]:
    """Make ``clips/<id>.wav`` of every clip's chosen take, except of rejected ones.

    Clips that were made of the same take with the same settings are skipped. A take that cannot be cleaned is put up
    for review with the reason, and the others go on.

    Parameters
    ----------
    voice : Voice
        The voice folder.
    config : CleanConfig
        What to do.
    workers : int, optional
        Processes; 1 works in this one. By default as many as there are cores, and fewer for few clips.
    progress : callable, optional
        Called with clips done and clips in all.

    Raises
    ------
    VoiceError
        If there is no take.
    """
    clips = [clip for clip in voice.clips if clip.take and clip.state != "rejected"]
    if not clips:
        raise VoiceError(f"{voice.name} has no takes to clean: record or import some first (notebook 01).")
    keys = {clip.id: text_hash(METHOD, clip.hash, config) for clip in clips}
    todo = [clip for clip in clips if clip.cleaned != keys[clip.id] or not voice.clip_path(clip.id).exists()]
    jobs = [(voice.take_path(clip), voice.clip_path(clip.id), config) for clip in todo]
    results = {clip.id: CleanResult(clip.id, "unchanged") for clip in clips}
    done: list[tuple[Clip, str]] = []  # what was cleaned, and why it could not be; "" if it could
    try:
        for clip, (record, problem) in zip(todo, _mapped(jobs, workers), strict=True):
            results[clip.id] = CleanResult(clip.id, "failed" if problem else "cleaned", record, problem)
            done.append((replace(clip, cleaned=keys[clip.id]), problem))
            if progress:
                progress(len(clips) - len(todo) + len(done), len(clips))
    finally:  # whatever stops it, what is done need not be done again
        _enter(voice, done)
    return tuple(results.values())


def _enter(voice: Voice, done: list[tuple[Clip, str]]) -> None:
    """Note what was done in the rows as they are now: somebody may have corrected or recorded a clip meanwhile."""
    rows = []
    for clip, problem in done:
        row = voice.clip(clip.id)
        if (row.take, row.hash) != (clip.take, clip.hash):
            voice.clip_path(clip.id).unlink(missing_ok=True)  # made of the take before
        else:
            rows.append(_failed(row, problem) if problem else replace(row, cleaned=clip.cleaned))
    if rows:
        voice.update(*rows)


def _failed(clip: Clip, problem: str) -> Clip:
    known = [check for check in clip.checks.split("; ") if check]
    checks = known if problem in known else [*known, problem]
    return replace(clip, cleaned="", state="review", checks="; ".join(checks))


def _clean_file(job: tuple[Path, Path, CleanConfig]) -> tuple[CleanRecord | None, str]:
    """Clean one take into one clip; the reason when it cannot be."""
    take, clip, config = job
    try:
        wave, record = clean_wave(*load(take, sample_rate=None), config)
    except AudioError as error:
        clip.unlink(missing_ok=True)  # made of another take: it must not stand for this one
        return None, str(error).replace(f"{take} ", "")
    save(clip, wave, AudioConfig().sample_rate)
    return record, ""


def _mapped(jobs: list, workers: int | None) -> Iterator[tuple[CleanRecord | None, str]]:
    """Results of `_clean_file` in the jobs' order."""
    from concurrent.futures import ProcessPoolExecutor

    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(jobs) // CLIPS_PER_WORKER))
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_clean_file, jobs)
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), initializer=_leave_interrupts_to_the_parent)
    try:
        yield from pool.map(_clean_file, jobs, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
