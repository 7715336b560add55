"""How the learning rate falls while a voice is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import VoiceCloneError


@dataclass(frozen=True)
class Cosine:
    """A short warm-up, then half a cosine over the budget."""

    rate: float  # Adam's, at its highest
    final: float = 0.05  # share of it that is left when the budget is spent
    warmup_steps: int = 100  # steps until the rate is at its highest

    def at(self, step: int, progress: float) -> float:
        """Learning rate of the step after `step`, `progress` (0 to 1) of the budget being spent."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        return self.rate * warm * (self.final + (1 - self.final) * cosine)


@dataclass(frozen=True)
class Exponential:
    """FakeYou's schedule in its own names, whose values are the defaults.

    ``A`` until the iteration `decay_start`, then ``A * exp(-(iteration - decay_start) / B) + C``, never below
    `min_learning_rate`. Made for 42,200 iterations, it would not have begun to fall in the 1,000 that 25 clips get; so
    it is stretched or squeezed to the budget and ends at its floor.
    """

    A: float = 3e-4  # the rate at first
    B: float = 8000.0  # iterations in which what is above C falls to 1/e
    C: float = 0.0  # what it falls to
    decay_start: int = 15000  # iteration from which it falls
    min_learning_rate: float = 1e-5  # floor
    stretch: bool = True  # to the budget; False counts iterations as they are

    def __post_init__(self) -> None:
        if not 0 < self.min_learning_rate <= self.A or self.B <= 0 or self.C < 0 or self.decay_start < 0:
            raise VoiceCloneError(
                f"A={self.A}, B={self.B}, C={self.C}, decay_start={self.decay_start} and min_learning_rate="
                f"{self.min_learning_rate} are no schedule: expected 0 < min_learning_rate <= A, B > 0, C >= 0 and "
                "decay_start >= 0."
            )

    @property
    def length(self) -> float:
        """Iterations until the floor; with C above the floor, until nearly all has fallen that will."""
        above = self.min_learning_rate - self.C
        return self.decay_start + self.B * (math.log(self.A / above) if above > 0 else 5.0)

    def at(self, step: int, progress: float) -> float:
        """Learning rate of the step after `step`, `progress` (0 to 1) of the budget being spent."""
        iteration = min(progress, 1.0) * self.length if self.stretch else step
        if iteration < self.decay_start:
            return self.A
        return max(self.A * math.exp(-(iteration - self.decay_start) / self.B) + self.C, self.min_learning_rate)


FAKEYOU = Exponential()
FAKEYOU_BATCH, FAKEYOU_EPOCHS = 6, 250  # clips a step and passes over all clips, in FakeYou's notebook
SCHEDULES = {"cosine": None, "fakeyou": FAKEYOU}  # None = what `learn_config` chooses
