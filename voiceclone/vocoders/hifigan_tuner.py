"""HiFi-GAN that learns: a generator and its discriminators, taught by turns (Kong et al. 2020, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ..audio import AudioConfig, log_mel
from ..errors import VoiceCloneError
from .aligned import whole_range
from .fitting import FitConfig, check_finite, halve
from .hifigan import Generator, authors_weights, laid_out
from .hifigan_discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_loss


@dataclass(frozen=True)
class TuneConfig(FitConfig):
    """How HiFi-GAN is fine-tuned."""

    checkpoint: str = "best"  # of the run, whose Tacotron 2 draws the spectrograms
    # A generator's file, or what `fetch` takes; None = as before, and at first the authors' universal one.
    start: str | None = None
    piece: int = 32  # frames; the paper's 8192 samples
    # The generator goes on where the authors' training ended. There their rate had fallen from 2e-4 to 1e-5 (by 0.999
    # for each of some 3000 passes over LJSpeech), and FakeYou's notebooks take 3e-5. The discriminators begin anew,
    # with the paper's rate.
    learning_rate: float = 3e-5  # of the generator's AdamW
    discriminator_rate: float = 2e-4
    rate_decay: float = 0.999  # of both, a pass over the clips
    betas: tuple[float, float] = (0.8, 0.99)
    mel_weight: float = 45.0
    feature_weight: float = 2.0
    # The discriminators learn alone for so many steps, or for this share of the budget where that is sooner; over as
    # long again what they say gains its weight.
    alone_steps: int = 1000
    alone_share: float = 0.15
    narrower: int | None = None  # divides the discriminators' channels; None = 1 (the paper's) on a GPU, 4 without
    # How far the generator that speaks has gone from the one that it began with to what was learned. All the way, and
    # even half of it, an hour without a GPU costs words: its judges have not learned enough to keep consonants clear.
    share: float = 0.3

    def __post_init__(self) -> None:
        rates = ("learning_rate", "discriminator_rate")
        self.check_positive("batch_size", "piece", *rates, "alone_steps", "alone_share")
        if not 0 < self.share <= 1:
            raise VoiceCloneError(f"share={self.share} must be above 0, where nothing was learned, and at most 1.")


@dataclass(frozen=True)
class Tuned:
    """What one step did; losses without their weights."""

    mel_loss: float  # L1 of log-mels, nepers
    adversarial_loss: float  # 0 while the discriminators learn alone
    feature_loss: float
    discriminator_loss: float  # 2 for each discriminator that finds nothing is 0.5 and 0.5
    judges: float  # weight of what they say


class Tuner:
    """A generator, its discriminators and their optimisers, in single precision, as the authors' training is.

    On a GPU the convolutions, which are nearly all of the work, are multiplied in TF32: cuDNN's own choice.

    Parameters
    ----------
    generator : Generator
        From `build_trainable`; changed in place.
    discriminators : Discriminators
        Changed in place.
    config : TuneConfig
    clips : int
        How many there are, so that the rate falls once a pass.
    device : str
        Where to compute.
    """

    def __init__(
        self,
        generator: Generator,
        discriminators: Discriminators,
        config: TuneConfig,
        *,
        clips: int,
        device: str = "cpu",
    ) -> None:
        self.config, self.clips, self.device = config, clips, device
        self.batch_size = config.batch_size or (16 if device.startswith("cuda") else 2)  # the paper's 16
        self.generator, self.discriminators = laid_out(generator, device), discriminators.to(device)
        fused = device.startswith("cuda") or None  # one kernel for all weights; None is torch's own choice
        self.of_generator = torch.optim.AdamW(generator.parameters(), config.learning_rate, config.betas, fused=fused)
        self.of_judges = torch.optim.AdamW(
            discriminators.parameters(), config.discriminator_rate, config.betas, fused=fused
        )
        self.audio = whole_range(AudioConfig(n_mels=generator.conv_pre.in_channels))
        self.step, self.pieces = 0, 0  # taken; pieces learned from
        self.schooling = 0.0  # of the discriminators: at 1 they have had their time alone, at 2 they are fully heard

    @property
    def epoch(self) -> float:
        """Passes over the clips."""
        return self.pieces / self.clips

    @property
    def rate(self) -> float:
        """Learning rate of the generator."""
        return self.config.learning_rate * self.config.rate_decay ** int(self.epoch)

    @property
    def judges(self) -> float:
        """Weight of what the discriminators say, 0 to 1."""
        return min(max(self.schooling - 1.0, 0.0), 1.0)

    def school(self, passed: float) -> None:
        """Count a step of the discriminators, which took so much of the budget, into their schooling."""
        self.schooling += max(1 / self.config.alone_steps, passed / self.config.alone_share)

    def learn(self, mels: torch.Tensor, waves: torch.Tensor) -> Tuned:
        """Take one step; with fewer pieces, from then on, where memory does not suffice for as many.

        Parameters
        ----------
        mels : torch.Tensor, shape (batch, n_mels, frames)
        waves : torch.Tensor, shape (batch, frames * hop_length)
            What shall be made of them.

        Raises
        ------
        TrainingError
            If a loss is no longer a finite number, or memory does not suffice for a single piece.

        Warns
        -----
        UserWarning
            If memory does not suffice for so many pieces.
        """
        while (learned := self._learned(mels[: self.batch_size], waves[: self.batch_size])) is None:
            self.batch_size = halve(self.batch_size, device=self.device, piece=f"piece of {mels.shape[2]} frames")
        self.step += 1
        self.pieces += min(self.batch_size, len(mels))
        return learned

    def _learned(self, mels: torch.Tensor, waves: torch.Tensor) -> Tuned | None:
        """What a step did; None if it ran out of memory, of which nothing is held then."""
        try:
            return self._descended(mels.to(self.device), waves.to(self.device))
        except torch.OutOfMemoryError:
            return None

    def _descended(self, mels: torch.Tensor, natural: torch.Tensor) -> Tuned:
        """A step of the discriminators, then one of the generator, which hears what they now say."""
        self.of_generator.param_groups[0]["lr"] = self.rate
        self.of_judges.param_groups[0]["lr"] = self.rate * self.config.discriminator_rate / self.config.learning_rate
        made = self.generator(mels)
        self.discriminators.requires_grad_(True)
        judged = discriminator_loss(*self.discriminators.compare(natural, made.detach()))
        (judged_loss,) = _descend(self.of_judges, self.step, judged)
        mel = F.l1_loss(log_mel(made, self.audio), log_mel(natural, self.audio))
        adversarial, feature = self._heard(natural, made) if self.judges else (mel.new_zeros(()), mel.new_zeros(()))
        total = self.config.mel_weight * mel + self.judges * (adversarial + self.config.feature_weight * feature)
        _, *losses = _descend(self.of_generator, self.step, total, mel, adversarial, feature)
        return Tuned(*losses, judged_loss, self.judges)

    def _heard(self, natural: torch.Tensor, made: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the discriminators, as they now are, say to the generator."""
        self.discriminators.requires_grad_(False)
        real, fake = self.discriminators.compare(natural, made)
        return adversarial_loss(fake), feature_loss(real, fake)

    def state(self) -> dict[str, Any]:
        """Everything that is needed to go on; ``generator`` is as the authors write it."""
        return {
            "generator": authors_weights(self.generator),
            "discriminators": self.discriminators.state_dict(),
            "narrower": self.discriminators.narrower,
            "of_generator": self.of_generator.state_dict(),
            "of_judges": self.of_judges.state_dict(),
            "step": self.step,
            "pieces": self.pieces,
            "schooling": self.schooling,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; the generator is the one that was built of its weights.

        A state without discriminators leaves them, and the optimisers, as they are: new.
        """
        self.step = state["step"]
        self.pieces = state.get("pieces", self.step * self.batch_size)  # this and the schooling older files lack
        if "discriminators" not in state:
            return
        self.discriminators.load_state_dict(state["discriminators"])
        self.schooling = state.get("schooling", self.step / self.config.alone_steps)
        for optimiser, known in (self.of_generator, state["of_generator"]), (self.of_judges, state["of_judges"]):
            for group, own in zip(known["param_groups"], optimiser.param_groups, strict=True):
                group["fused"] = own["fused"]  # is this device's, whatever the last session had
            optimiser.load_state_dict(known)


def _descend(optimiser: torch.optim.Optimizer, step: int, loss: torch.Tensor, *parts: torch.Tensor) -> list[float]:
    """Lower a loss if it and its gradient are finite; gives it and its parts as numbers."""
    optimiser.zero_grad()
    loss.backward()
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(weights, torch.inf)
    norm, *numbers = torch.stack((norm, loss, *parts)).tolist()  # one question, for which a GPU is waited for
    check_finite(numbers[0], step)
    check_finite(norm, step, of="gradient")
    optimiser.step()
    return numbers
