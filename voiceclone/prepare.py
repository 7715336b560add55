"""What is slow to find out of a corpus, clip by clip, on all cores of one machine or on a Ray cluster.

A corpus is a folder with ``metadata.csv`` (``id|speaker|text``, one row a clip, no header) and the sounds in
``audio/<id>.*`` or ``wavs/<id>.*``. `clip_features` is a pure function of one of its clips: which sound is when, the
pitch, how loud it is, whose voice it is. `prepare` maps it over all of them and keeps what it gives in shards, so that
a second run finds it done, and a crash loses what was being worked on and no more.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .audio import AudioConfig, load, resample
from .ears import ENGINES, load_transcriber
from .errors import AlignmentError, TrainingError, UnavailableError, VoiceCloneError
from .files import atomic_path, file_hash, text_hash
from .levels import TARGET_LUFS, loudness
from .mapping import engine_named
from .text import FRONT_END

if TYPE_CHECKING:
    from .ears import Transcriber

METHOD = 1  # raise it when the same clip gives other features: they are then found anew
LARGEST_SHARD = 64  # clips; some 10 kB each
SHARDS_A_WORKER = 4  # at least, so that none is idle for long at the end
UNALIGNED = "its sounds do not follow its text"


# The corpus -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One clip of a corpus."""

    id: str
    speaker: str
    text: str
    path: Path
    speed: float = 1.0  # at which it is played: faster is higher, and a smaller head

    @property
    def key(self) -> str:
        """Names the clip and its speed."""
        return self.id if self.speed == 1.0 else f"{self.id}@{self.speed}"

    def wave(self, sample_rate: int) -> np.ndarray:
        """(samples,) at `sample_rate`, played at its speed."""
        wave, _ = load(self.path, sample_rate=sample_rate)
        return wave if self.speed == 1.0 else resample(wave, round(sample_rate * self.speed), sample_rate)


def read_corpus(folder: str | Path) -> list[Row]:
    """Read ``metadata.csv`` and find the sounds.

    Raises
    ------
    TrainingError
        If the table is missing or malformed, or no sound is found.
    """
    folder = Path(folder)
    table = folder / "metadata.csv"
    if not table.is_file():
        raise TrainingError(f"There is no corpus in {folder}: expected metadata.csv with rows id|speaker|text.")
    sounds = {path.stem: path for sub in ("wavs", "audio") for path in sorted((folder / sub).glob("*.*"))}
    rows = []
    with table.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE), 1):
            if len(row) != 3:
                raise TrainingError(f"{table}, line {number}: expected id|speaker|text, found {len(row)} columns.")
            if row[0] in sounds:
                rows.append(Row(*row, sounds[row[0]]))
    if not rows:
        raise TrainingError(f"None of the clips of {table} was found in {folder}/wavs or {folder}/audio.")
    return rows


# One clip ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """What is slow to find out of a clip."""

    ends: np.ndarray  # (symbols,) s, when each symbol of its text ends; empty where the clip does not say it
    pitch: np.ndarray  # (frames,) Hz, 0 where unvoiced
    speaker: np.ndarray  # (256,) embedding
    gain: float  # brings the clip to TARGET_LUFS
    text: str  # what it says


def clip_features(row: Row, audio: AudioConfig = AudioConfig(), *, transcriber: str = "") -> Features:
    """Find out all that is slow to find out of one clip; nothing else is read or changed.

    Parameters
    ----------
    row : Row
    audio : AudioConfig
        Frames of the pitch.
    transcriber : str
        Engine that writes what a clip without a text says, as for `voiceclone.transcribe.load_transcriber`.

    Raises
    ------
    VoiceCloneError
        If the clip cannot be read, is silent, or has no text, or one that cannot be spoken.
    """
    from .align import align
    from .pitch import track_pitch
    from .speaker import embed

    wave = row.wave(audio.sample_rate)
    gain = 10 ** ((TARGET_LUFS - loudness(wave, audio.sample_rate)) / 20)
    text = row.text.strip()
    if not text:
        if not transcriber:
            raise TrainingError("it has no text: write one into metadata.csv, or name a transcriber.")
        text = _ears(transcriber).hear(wave, audio.sample_rate).text
    try:
        alignment = align(wave, audio.sample_rate, text)
        ends = [span.end for span in alignment.spans] if alignment.fits else []
    except AlignmentError:
        ends = []
    speaker = embed(row.wave(16000), 16000)
    return Features(np.array(ends, dtype=np.float32), track_pitch(wave, audio), speaker, gain, text)


@cache
def _ears(engine: str) -> Transcriber:
    """Loaded once a process."""
    return load_transcriber(engine)


@dataclass(frozen=True)
class Job:
    """Clips that are worked on together and kept in one shard."""

    rows: tuple[Row, ...]
    known: tuple[str, ...]  # of each: the content from which its features were found; "" = never
    audio: AudioConfig
    transcriber: str

    def split(self) -> Iterator[Job]:
        """Each clip alone."""
        for row, known in zip(self.rows, self.known, strict=True):
            yield Job((row,), (known,), self.audio, self.transcriber)


@dataclass(frozen=True)
class Outcome:
    """What became of one clip; neither features nor problem: it is as it was known."""

    id: str
    content: str  # hash of its sound and text and of how they are looked at
    features: Features | None = None
    problem: str = ""


def work(job: Job) -> list[Outcome]:
    """Find the features of some clips; the pure function that is mapped over the corpus."""
    return [_outcome(row, known, job) for row, known in zip(job.rows, job.known, strict=True)]


def _outcome(row: Row, known: str, job: Job) -> Outcome:
    try:
        sound = file_hash(row.path)
    except OSError as error:
        return Outcome(row.id, "", problem=f"{row.path} cannot be read: {error.strerror or error}")
    text = row.text.strip()
    content = text_hash(METHOD, FRONT_END, sound, text, job.audio, "" if text else job.transcriber)
    if content == known:
        return Outcome(row.id, content)
    try:
        features = clip_features(row, job.audio, transcriber=job.transcriber)
    except UnavailableError:  # of this machine, not of this clip
        raise
    except VoiceCloneError as error:
        return Outcome(row.id, content, problem=" ".join(str(error).split()))
    return Outcome(row.id, content, features, "" if features.ends.size else UNALIGNED)


# A corpus ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A corpus, and what was found out of it."""

    features: dict[str, Features]  # by the clip's id; of those that could be read
    problems: dict[str, str]  # by the clip's id: why it teaches nothing, or nothing but its voice
    made: int  # clips that were worked on now
    unchanged: int  # clips that had been worked on before


def prepare(
    corpus: str | Path,
    *,
    out: str | Path | None = None,
    audio: AudioConfig = AudioConfig(),
    engine: str = "processes",
    workers: int | None = None,
    address: str | None = None,
    transcriber: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Find the features of all of a corpus's clips that are new or have changed.

    Parameters
    ----------
    corpus : str or Path
        The corpus. With Ray every machine must see it, and `voiceclone`, under the same path.
    out : str, Path or None
        Folder of the shards; ``features/`` in the corpus unless given.
    audio : AudioConfig
        Frames of the pitch.
    engine : str
        ``"processes"``: a pool on this machine; ``"ray"``: a Ray cluster; ``"none"``: this process.
    workers : int or None
        How many at once; None is one a core, or as many as the cluster has.
    address : str or None
        Of a Ray cluster (``"auto"``, ``"ray://host:10001"``); None starts one on this machine.
    transcriber : str
        See `clip_features`.
    progress : callable or None
        Called with clips done and clips in all.

    Raises
    ------
    TrainingError
        If there is no corpus.
    UnavailableError
        If the engine is not installed.
    """
    corpus = Path(corpus).resolve()  # wherever the workers are
    rows = read_corpus(corpus)
    if transcriber not in ("", *ENGINES):
        raise VoiceCloneError(f"There is no engine {transcriber!r}. Choose one of: {', '.join(ENGINES)}.")
    store = Store(out or corpus / "features")
    known = store.read()
    made = unchanged = 0
    with engine_named(engine, workers=workers, address=address) as mapping:
        jobs = _jobs(rows, known, mapping.workers, audio, transcriber)
        for job, outcomes in mapping.map(work, jobs, Job.split):
            if outcomes is None:
                outcomes = [Outcome(row.id, "", problem="it ended the process that worked on it") for row in job.rows]
            new = [outcome for outcome in outcomes if outcome.features or outcome.problem]
            store.write([outcome for outcome in new if outcome.content])  # that a clip could not be read may pass
            known |= {outcome.id: outcome for outcome in new}
            made, unchanged = made + len(new), unchanged + len(outcomes) - len(new)
            if progress:
                progress(made + unchanged, len(rows))
    found = {row.id: known[row.id] for row in rows}
    features = {name: outcome.features for name, outcome in found.items() if outcome.features}
    problems = {name: outcome.problem for name, outcome in found.items() if outcome.problem}
    return Prepared(features, problems, made, unchanged)


def _jobs(
    rows: Sequence[Row], known: dict[str, Outcome], workers: int, audio: AudioConfig, transcriber: str
) -> list[Job]:
    """Shares of the corpus, small enough that all workers have some."""
    size = max(1, min(LARGEST_SHARD, len(rows) // (SHARDS_A_WORKER * workers)))
    jobs = []
    for at in range(0, len(rows), size):
        part = tuple(rows[at : at + size])
        contents = tuple(known[row.id].content if row.id in known else "" for row in part)
        jobs.append(Job(part, contents, audio, transcriber))
    return jobs


# Shards -----------------------------------------------------------------------------------------------------------


class Store:
    """A folder of shards: numbered ``.npz`` files, of which a later one says more of a clip than an earlier one."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def read(self) -> dict[str, Outcome]:
        """What is known, by the clips' ids."""
        known: dict[str, Outcome] = {}
        for path in self._shards():
            known |= {outcome.id: outcome for outcome in _read_shard(path)}
        return known

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Add a shard, whole or not at all; none for nothing."""
        if not outcomes:
            return
        shards = self._shards()
        number = int(shards[-1].stem) + 1 if shards else 0
        _write_shard(self.folder / f"{number:08d}.npz", outcomes)

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.npz"))


def _write_shard(path: Path, outcomes: Sequence[Outcome]) -> None:
    whole = [outcome.features for outcome in outcomes if outcome.features]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            ids=np.array([outcome.id for outcome in outcomes]),
            contents=np.array([outcome.content for outcome in outcomes]),
            problems=np.array([outcome.problem for outcome in outcomes]),
            read=np.array([outcome.features is not None for outcome in outcomes]),
            texts=np.array([features.text for features in whole], dtype=str),
            symbols=np.array([len(features.ends) for features in whole], dtype=int),
            frames=np.array([len(features.pitch) for features in whole], dtype=int),
            ends=_joined([features.ends for features in whole]),
            pitch=_joined([features.pitch for features in whole]),
            speakers=np.stack([features.speaker for features in whole]) if whole else np.zeros((0, 0)),
            gains=np.array([features.gain for features in whole]),
        )


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([*parts, np.zeros(0, dtype=np.float32)])


def _read_shard(path: Path) -> list[Outcome]:
    with np.load(path) as file:
        shard = {name: file[name] for name in file}
    ends = np.split(shard["ends"], np.cumsum(shard["symbols"])[:-1])
    pitch = np.split(shard["pitch"], np.cumsum(shard["frames"])[:-1])
    columns = zip(ends, pitch, shard["speakers"], shard["gains"].tolist(), shard["texts"].tolist(), strict=False)
    whole = (Features(*column) for column in columns)  # none where no clip of the shard could be read
    named = zip(*(shard[name].tolist() for name in ("ids", "contents", "problems", "read")), strict=True)
    return [
        Outcome(name, content, next(whole) if read else None, problem) for name, content, problem, read in named
    ]
