"""What the training of every vocoder shares: a budget, checkpoints to go on from, and pieces cut out at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..drive import Keeper
from ..errors import TrainingError, VoiceCloneError
from ..weights import newest_whole, write_weights


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


def check_finite(loss: float, step: int) -> None:
    """Stop training that has diverged.

    Raises
    ------
    TrainingError
        If the loss is not a finite number.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss of step {step} is {loss}. Begin again, or from the last checkpoint, with a lower learning rate."
        )
