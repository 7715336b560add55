"""What the training of every vocoder shares: a budget, pieces cut out at random, and sessions that lose nothing."""

from __future__ import annotations

import json
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..drive import Keeper
from ..errors import TrainingError, VoiceCloneError
from ..files import atomic_write
from ..log import Log
from ..weights import newest_whole, write_weights

if TYPE_CHECKING:
    from ..voice import Voice

DEFAULT_MINUTES = 30.0


@dataclass(frozen=True)
class Budget:
    """How long to train over all sessions: minutes or steps, whichever is spent first."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.minutes, self.steps) if value is not None]
        if not given or min(given) <= 0:
            raise VoiceCloneError(
                f"minutes={self.minutes} and steps={self.steps}: give one of them, or both, above zero."
            )

    def spent(self, steps: int, seconds: float) -> float:
        """Share of the budget that is spent, from 0; 1 and more is all of it."""
        by_time = 0.0 if self.minutes is None else seconds / (60 * self.minutes)
        by_step = 0.0 if self.steps is None else steps / self.steps
        return max(by_time, by_step)


@dataclass(frozen=True)
class FitConfig:
    """What the training of every vocoder is told. The budget is in minutes or in steps, whichever is spent first."""

    minutes: float | None = None  # over all sessions; None = 30, unless steps are given
    steps: int | None = None  # optimiser steps, over all sessions
    run: str | None = None  # of the Tacotron 2 that the vocoder shall speak for; None = the one worked on last
    resume: bool = True  # go on from the newest whole checkpoint; False begins anew
    batch_size: int | None = None  # pieces a step; None fits the device
    save_minutes: float = 10.0  # between checkpoints
    seed: int = 1234
    device: str | None = None  # None chooses

    @property
    def budget(self) -> Budget:
        """How long to train."""
        minutes = DEFAULT_MINUTES if self.minutes is None and self.steps is None else self.minutes
        return Budget(minutes, self.steps)

    def check_positive(self, *names: str) -> None:
        """Refuse a budget, and such a field, that is given and not above zero."""
        given = {name: getattr(self, name) for name in ("minutes", "steps", *names)}
        wrong = {name: value for name, value in given.items() if value is not None and value <= 0}
        if wrong:
            raise VoiceCloneError(f"{', '.join(f'{k}={v}' for k, v in wrong.items())} must be above zero.")


def checkpoint_to_fit(voice: Voice, run: str | None = None, checkpoint: str = "best") -> Path:
    """The Tacotron 2 to which a vocoder is to be fitted, of a voice that may be learned.

    Parameters
    ----------
    voice : Voice
    run, checkpoint : str
        As `voiceclone.synthesize.find_checkpoint` has them.

    Raises
    ------
    TrainingError
        If nobody consented, or there is no clip.
    CheckpointError
        If the voice has not been trained.
    """
    from ..synthesize import find_checkpoint

    if not voice.consent.who:
        raise TrainingError(f"{voice.name} has no recorded consent; without it no voice is trained (notebook 00).")
    found = find_checkpoint(voice, run, checkpoint)
    if not voice.usable():
        raise TrainingError(f"{voice.name} has no clip to learn from: none is accepted and cleaned (notebooks 01-03).")
    return found


def choose_pieces(lengths: Sequence[int], piece: int, count: int, *, seed: int, step: int) -> list[tuple[int, int]]:
    """Where to cut pieces out at random, every part of the sound equally often.

    They depend on seed and step alone: training that goes on sees what it would have seen.

    Parameters
    ----------
    lengths : sequence of int
        Of the clips.
    piece, count : int
        How long each piece is, in the same unit, and how many to choose.

    Returns
    -------
    list of (int, int)
        Clip and start, 0 where the clip is no longer than a piece.
    """
    random = np.random.default_rng((seed, step))
    weights = np.asarray(lengths, dtype=np.float64)
    clips = random.choice(len(lengths), size=count, p=weights / weights.sum())
    return [(int(clip), int(random.integers(max(1, lengths[clip] - piece + 1)))) for clip in clips]


class DivergedError(TrainingError):
    """What was learned is of no use any more, and nobody shall go on from it."""


def check_finite(value: float, step: int, *, of: str = "loss") -> None:
    """Stop training that has diverged.

    Raises
    ------
    DivergedError
        If the loss, or what else it is `of`, is not a finite number.
    """
    if not math.isfinite(value):
        raise DivergedError(
            f"The {of} of step {step} is {value}. Begin again, or from the last checkpoint, with a lower learning rate."
        )


def halve(batch_size: int, *, device: str, piece: str) -> int:
    """Half of a batch for which the memory did not suffice, and say so.

    Parameters
    ----------
    batch_size : int
        Pieces a step, until now.
    device : str
        Whose memory it is.
    piece : str
        One of them, for the message: ``"piece of 32 frames"``.

    Raises
    ------
    TrainingError
        If there is nothing to halve.

    Warns
    -----
    UserWarning
        Of how many pieces are learned from now.
    """
    if batch_size == 1:
        raise TrainingError(
            f"The memory of {device} does not suffice for a single {piece}. Free it of what other notebooks and "
            "programs hold there, or give a smaller one, or device='cpu', in the config."
        )
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    left = batch_size // 2
    some = f"{left} piece{'s' * (left > 1)}"
    warnings.warn(f"Memory does not suffice for more: each step learns from {some} from now on.", stacklevel=3)
    return left


# Sessions ---------------------------------------------------------------------------------------------------------


class Checkpoints:
    """A folder with what is needed to go on: ``step-<number>.pt``, of which only the newest is kept.

    A checkpoint of HiFi-GAN with the paper's discriminators has a gigabyte, mostly the optimisers' moments.

    Parameters
    ----------
    folder : str or Path
    keeper : Keeper or None
        Of the folder above, which this one lies in; None if nothing is kept elsewhere.
    """

    def __init__(self, folder: str | Path, keeper: Keeper | None = None) -> None:
        self.folder = Path(folder)
        self.keeper = keeper or Keeper(self.folder.parent, self.folder.parent)

    def newest(self) -> dict[str, Any] | None:
        """What was saved last; files that are torn are passed over."""
        found = newest_whole(self.folder)
        return None if found is None else found[1]

    def save(self, step: int, content: dict[str, Any]) -> Path:
        """Write a checkpoint, whole or not at all, and only then drop those before it."""
        path = write_weights(self.folder / f"step-{step:06d}.pt", content)
        self.keeper.keep(path)
        self.keeper.drop(*(other for other in self.folder.glob("step-*.pt") if other != path))
        return path


class Session(ABC):
    """One session of training: what was spent, and what is written where.

    A subclass makes what learns, calls `_begin`, and takes its steps inside `_kept`.

    Parameters
    ----------
    folder : Path
        The vocoder's own, below its run's.
    config : FitConfig
    data : str
        Hash of what is learned from.
    """

    def __init__(self, folder: Path, config: FitConfig, data: str) -> None:
        self.config, self.data = config, data
        self.keeper = Keeper(folder)
        self.folder = self.keeper.work
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.keeper)
        self.log = Log(self.folder / "log.jsonl")
        if config.resume:
            self.keeper.fetch()

    @property
    @abstractmethod
    def step(self) -> int:
        """Optimiser steps that were taken, over all sessions."""

    @abstractmethod
    def _save(self) -> str:
        """Write all that there is to write, through `_write`; gives the checkpoint's name."""

    def _check_same_start(self, known: dict[str, Any], begins: str, then: str, now: str) -> None:
        """Refuse to drop what an earlier session has learned from another start.

        Parameters
        ----------
        known : dict
            What that session has written.
        begins : str
            Hash of what to start with now; a file's name may be the same and hold something else.
        then, now : str
            What both starts are called.
        """
        if known.get("begins") != begins:  # older files lack it
            raise TrainingError(
                f"{self.folder} holds what was learned from {then} as it was then, not from {now} as it is now. Give "
                "that start to go on, or begin anew (--no-resume; resume=False), which drops it."
            )

    def _begin(self, known: dict[str, Any] | None) -> None:
        """Go on from what an earlier session has written, None if from nothing.

        Where the voice has changed since, what is known is kept and the budget begins anew.
        """
        self.unchanged = known is not None and known["data"] == self.data
        self.first_step = known["first_step"] if self.unchanged else self.step
        self.seconds_before = known["seconds"] if self.unchanged else 0.0
        self.began = time.monotonic()
        self.saved, self.saved_at = self.step, self.seconds
        self.log.cut(self.step if known else -1)

    @property
    def seconds(self) -> float:
        """Of training, over all sessions."""
        return self.seconds_before + time.monotonic() - self.began

    def _spent(self) -> float:
        """Share of the budget."""
        return self.config.budget.spent(self.step - self.first_step, self.seconds)

    def _due(self, spent: float) -> bool:
        """Whether it is time to save."""
        return spent >= 1 or self.seconds - self.saved_at >= 60 * self.config.save_minutes

    def _record(self, step: dict[str, Any]) -> None:
        """Add a step to the log, and say what there is to say of the drive."""
        self.log.append(step)
        for note in self.keeper.notes():
            warnings.warn(note, stacklevel=3)

    def _write(self, state: dict[str, Any], about: dict[str, Any]) -> str:
        """Write a checkpoint, and ``config.json`` with what was spent; the checkpoint's name.

        Parameters
        ----------
        state : dict
            What training needs to go on, for the checkpoint alone.
        about : dict
            What a later session knows this training by, for both.
        """
        about, seconds = about | {"data": self.data}, self.seconds
        state = state | about | {"first_step": self.first_step, "seconds": seconds}
        path = self.checkpoints.save(self.step, state)
        spent = {"steps": self.step - self.first_step, "seconds": seconds}
        with atomic_write(self.folder / "config.json", "w") as file:
            json.dump(about | {"spent": spent, "config": asdict(self.config)}, file, indent=1)
        self.keeper.keep(self.log.path, self.folder / "config.json")
        self.saved, self.saved_at = self.step, seconds
        return path.name

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """However a session ends, nothing of it is lost but what has diverged."""
        try:
            yield
        except DivergedError:
            self.saved = self.step
            raise
        finally:
            try:
                if self.step > self.saved:  # stopped between two checkpoints
                    self._save()
            finally:
                self.keeper.keep(self.log.path)  # it may have grown since the checkpoint
                self.keeper.close()
