"""Listening to one take as an engineer would: clipped, quiet, noisy, silent, or not what the prompt takes to read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .audio import SILENCE_DBFS
from .levels import measure, runs

FULL_SCALE = 0.999  # a converter that clips gives its largest code, 32767/32768, or a step or two below
CLIPPED_RUN = 3  # samples in a row: one or two at the top can be the true peak of a wave
FLAT_TOP = 0.9995  # of the take's own peak: clipped first, turned down later
FLAT_TOP_RUNS = 5  # speech has one highest peak; many equally high and flat ones were cut
QUIET_DBFS = -45.0  # speech below it needs 22 dB and more of gain, which lifts the room's noise as much
LOUD_DBFS = -9.0  # speech has crests of 12 to 18 dB; above this level they cannot fit below full scale
SNR_DB = 20.0  # below it the room is heard between the words, and the clone learns to hiss
LOWEST_RATE = 16000  # Hz: carries sound up to 8 kHz, which is all that the mel spectrogram looks at
LETTERS_PER_SECOND = (5.0, 30.0)  # English is read at about 15; wide, so that only a wrong text falls outside
SLACK_SECONDS = 1.5  # for a pause of thought
WARNINGS = frozenset({"rate"})  # problems that do not make a take unfit


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a take: what was found, what was expected, what to do."""

    kind: str  # unreadable, not-a-number, empty, silent, clipped, quiet, loud, noisy, short, long or rate
    message: str


@dataclass(frozen=True)
class TakeReport:
    """What `check_take` measured."""

    seconds: float
    peak_dbfs: float
    level_dbfs: float  # RMS while somebody speaks
    noise_dbfs: float  # RMS of the quietest frames
    snr_db: float
    clipped: int  # samples that stand on a flat top
    speech_seconds: float  # from the first sound of speech to the last
    problems: tuple[Problem, ...] = ()
    take: str = ""  # file name in takes/, for a take that is in a voice folder

    @property
    def ok(self) -> bool:
        """Whether the take can be used; a warning alone does not forbid it."""
        return all(problem.kind in WARNINGS for problem in self.problems)

    @property
    def checks(self) -> str:
        """All messages in one line, as ``clips.csv`` holds them."""
        return "; ".join(problem.message for problem in self.problems)


def check_take(wave: np.ndarray, sample_rate: int, prompt: str | None = None) -> TakeReport:
    """Measure a take and say what is wrong with it.

    Parameters
    ----------
    wave : np.ndarray, shape (samples,)
        As the microphone gave it: full scale is 1, not resampled (resampling hides clipping).
    sample_rate : int
        Hz.
    prompt : str, optional
        What was to be read; lets the length be judged.

    Returns
    -------
    TakeReport
        ``report.ok`` is True when the take can be used.
    """
    wave = np.asarray(wave)
    seconds = len(wave) / sample_rate
    finite = np.isfinite(wave)
    if not finite.all() or wave.size == 0:
        return unmeasured(_no_sound(wave, finite), seconds)
    levels = measure(wave, sample_rate)
    clipped = clipped_samples(wave)
    if levels.speech_seconds == 0:
        problems = [_silent(levels.peak_dbfs)]
    else:
        problems = [
            _clipping(clipped, sample_rate),
            _level(levels.level_dbfs),
            _noise(levels.snr_db),
            _length(levels.speech_seconds, prompt),
        ]
    problems.append(_rate(sample_rate))
    return TakeReport(
        seconds,
        levels.peak_dbfs,
        levels.level_dbfs,
        levels.noise_dbfs,
        levels.snr_db,
        len(clipped),
        levels.speech_seconds,
        tuple(problem for problem in problems if problem),
    )


def unmeasured(problem: Problem, seconds: float = 0.0) -> TakeReport:
    """Report of a take that holds nothing to measure."""
    return TakeReport(seconds, SILENCE_DBFS, SILENCE_DBFS, SILENCE_DBFS, 0.0, 0, 0.0, (problem,))


def clipped_samples(wave: np.ndarray) -> np.ndarray:
    """Indices of the samples that stand on a flat top: at full scale, or at a level the take never exceeds.

    Parameters
    ----------
    wave : np.ndarray, shape (samples,)
        Full scale is 1.

    Returns
    -------
    np.ndarray, shape (clipped,)
    """
    found: set[int] = set()
    peak = np.abs(wave).max(initial=0.0)
    for level, least_runs in ((FULL_SCALE, 1), (max(FLAT_TOP * peak, 0.01), FLAT_TOP_RUNS)):
        for side in (wave, -wave):
            begins, ends = runs(side >= level)
            flat = ends - begins >= CLIPPED_RUN
            if np.count_nonzero(flat) >= least_runs:
                found.update(i for begin, end in zip(begins[flat], ends[flat], strict=True) for i in range(begin, end))
    return np.array(sorted(found), dtype=int)


def _no_sound(wave: np.ndarray, finite: np.ndarray) -> Problem:
    if wave.size == 0:
        return Problem("empty", "the take holds no samples: check that the right microphone is chosen and record again")
    return Problem("not-a-number", f"{np.count_nonzero(~finite)} values are not numbers: record or export it again")


def _silent(peak_dbfs: float) -> Problem:
    found = f"no speech above the room (peak {peak_dbfs:.0f} dBFS)"
    if peak_dbfs <= SILENCE_DBFS:
        found = "nothing but zeros"
    return Problem("silent", f"{found}: check that the microphone is not muted and record again")


def _clipping(clipped: np.ndarray, sample_rate: int) -> Problem | None:
    if clipped.size == 0:
        return None
    return Problem(
        "clipped",
        f"{clipped.size} samples are clipped, the first at {clipped[0] / sample_rate:.2f} s: "
        "lower the input level or move back, and record again",
    )


def _level(level_dbfs: float) -> Problem | None:
    if level_dbfs < QUIET_DBFS:
        return Problem(
            "quiet",
            f"the speech is at {level_dbfs:.0f} dBFS, at least {QUIET_DBFS:.0f} is expected: "
            "raise the input level or come closer, and record again",
        )
    if level_dbfs > LOUD_DBFS:
        return Problem(
            "loud",
            f"the speech is at {level_dbfs:.0f} dBFS, at most {LOUD_DBFS:.0f} is expected: "
            "lower the input level and record again",
        )
    return None


def _noise(snr_db: float) -> Problem | None:
    if snr_db >= SNR_DB:
        return None
    return Problem(
        "noisy",
        f"the speech is {snr_db:.0f} dB above the room, at least {SNR_DB:.0f} is expected: "
        "find a quieter room or come closer, and record again",
    )


def _length(speech_seconds: float, prompt: str | None) -> Problem | None:
    # A digit is read as a word of about five letters.
    letters = sum(5 if c.isdigit() else c.isalpha() for c in prompt or "")
    if letters == 0:
        return None
    shortest = letters / LETTERS_PER_SECOND[1]
    longest = letters / LETTERS_PER_SECOND[0] + SLACK_SECONDS
    if shortest <= speech_seconds <= longest:
        return None
    kind, advice = (
        ("short", "read the whole prompt")
        if speech_seconds < shortest
        else ("long", "read the prompt once, with nothing before or after it")
    )
    return Problem(
        kind,
        f"{speech_seconds:.1f} s of speech, this prompt takes {shortest:.1f} to {longest:.1f} s: "
        f"{advice}, and record again",
    )


def _rate(sample_rate: int) -> Problem | None:
    if sample_rate >= LOWEST_RATE:
        return None
    return Problem(
        "rate",
        f"recorded at {sample_rate} Hz, so nothing above {sample_rate // 2} Hz is heard and the clone will sound dull: "
        f"record at {LOWEST_RATE} Hz or more if you can",
    )
