"""One optimiser step after another: what adapting to a voice and pretraining on a corpus share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.utils.data import DataLoader

from .dataset import Batch, Example, Examples, LengthBuckets, collate
from .device import fast_precision
from .errors import TrainingError, VoiceCloneError
from .tacotron2 import LossConfig, Tacotron2, tacotron_loss

BAD_STEPS = 10  # steps in a row without a finite loss after which training gives up


@dataclass(frozen=True)
class LearnConfig:
    """How the weights are changed."""

    batch_size: int = 16  # clips a step
    learning_rate: float = 1e-3  # Adam's, at its highest
    final_rate: float = 0.05  # share of it that is left when the budget is spent
    warmup_steps: int = 100  # steps until the rate is at its highest
    weight_decay: float = 1e-6  # NVIDIA's
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0  # norm of the gradient at which it is cut (NVIDIA's)
    average: float = 0.999  # decay of the moving average of the weights, which is what speaks; 0 = none
    frame_dropout: float = 0.0  # share of the teacher's frames that are hidden, so that the text matters
    frame_noise: float = 0.0  # noise on the teacher's frames, in deviations of each band
    loss: LossConfig = field(default_factory=LossConfig)
    mixed_precision: str = "no"  # no, bf16 or fp16

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.learning_rate <= 0:
            raise VoiceCloneError(
                f"batch_size={self.batch_size} and learning_rate={self.learning_rate} must be above zero."
            )
        if not 0 <= self.average < 1 or not 0 <= self.frame_dropout < 1:
            raise VoiceCloneError(f"average={self.average} and frame_dropout={self.frame_dropout} must be in [0, 1).")


def learn_config(preset: str, count: int, *, based: bool, device: str) -> LearnConfig:
    """Settings that suit a preset and a number of clips.

    Parameters
    ----------
    preset : str
        ``"small"`` or ``"full"``.
    count : int
        Clips to learn from.
    based : bool
        The model begins with what a base or a checkpoint knows, so that smaller steps are enough.
    device : str
        ``"cpu"`` or ``"cuda"``.
    """
    rates = {("small", True): 3e-4, ("small", False): 1e-3, ("full", True): 3e-4, ("full", False): 1e-3}
    return LearnConfig(
        batch_size=max(1, min(12 if preset == "small" else 32, count)),
        learning_rate=rates[preset, based],
        warmup_steps=30 if based else 200,
        average=0.99 if based else 0.998,
        frame_dropout=0.1,
        frame_noise=0.1 if preset == "small" else 0.0,
        loss=LossConfig(absolute=1.0, contrast=1.0, attention=0.5, gate_positive=5.0)
        if preset == "small"
        else LossConfig(attention=0.5, gate_positive=5.0),
        mixed_precision=fast_precision(device),
    )


@dataclass(frozen=True)
class Learned:
    """What one step did."""

    loss: float
    mel_loss: float
    gate_loss: float
    attention_loss: float
    pitch_loss: float
    grad_norm: float
    learning_rate: float
    skipped: bool  # the loss or the gradient was not finite, and nothing was changed


class Learner:
    """A model, its optimiser and the moving average of its weights."""

    def __init__(self, model: Tacotron2, config: LearnConfig, *, device: str | None = None) -> None:
        self.config = config
        # A notebook may change device or precision between runs, which accelerate's shared state does not expect.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=device == "cpu")
        if self.accelerator.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True  # 10 bits of mantissa are enough for gradients
        optimiser = torch.optim.Adam(
            model.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )
        self.model, self.optimiser = self.accelerator.prepare(model, optimiser)
        self.averaged = deepcopy(self.plain).requires_grad_(False).eval()
        self.bad_steps = 0
        self.step = 0

    @property
    def plain(self) -> Tacotron2:
        """The model without what accelerate wraps around it."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def speaking(self) -> Tacotron2:
        """The model to speak with: the average of the weights, or the weights where none is kept."""
        return self.averaged if self.config.average else self.plain

    def batches(self, examples: Sequence[Example], *, seed: int, workers: int = 0) -> Iterator[Batch]:
        """Endless batches on the device, from the learner's step on."""
        sampler = LengthBuckets(
            [example.mel.shape[1] for example in examples], self.config.batch_size, seed=seed, first_step=self.step
        )
        loader = DataLoader(
            Examples(examples),
            batch_sampler=sampler,
            collate_fn=partial(collate, n_frames_per_step=self.plain.config.n_frames_per_step),
            num_workers=workers,
            pin_memory=self.accelerator.device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the one that a resumed run must find unchanged
        )
        for batch in loader:
            yield batch.to(self.accelerator.device)

    def rate(self, progress: float) -> float:
        """Learning rate at this step, `progress` (0 to 1) of the budget being spent: warm-up, then a half cosine."""
        config = self.config
        warm = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        return config.learning_rate * warm * (config.final_rate + (1 - config.final_rate) * cosine)

    def learn(self, batch: Batch, progress: float) -> Learned:
        """Take one step.

        Raises
        ------
        TrainingError
            If the loss has not been a finite number for ten steps.
        """
        rate = self.rate(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        statistics = [buffer.clone() for buffer in self.plain.buffers()]  # the forward pass changes the batch norms'
        self.model.train()
        with self.accelerator.autocast():
            output = self.model(
                batch.text, batch.text_lengths, self._roughened(batch), batch.mel_lengths, batch.speaker, batch.pitch
            )
            losses = tacotron_loss(
                self.plain, output, batch.mels, batch.attention, self.config.loss, batch.pitch
            )
        self.accelerator.backward(losses.total)
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.grad_clip))
        skipped = not (math.isfinite(norm) and bool(losses.total.isfinite()))
        if skipped:
            for buffer, before in zip(self.plain.buffers(), statistics, strict=True):
                buffer.copy_(before)
        else:
            self.optimiser.step()
            self._average()
        self.optimiser.zero_grad()
        self._count_bad(skipped, rate)
        self.step += 1
        parts = (losses.total, losses.mel, losses.gate, losses.attention, losses.pitch)
        return Learned(*(float(part.detach()) for part in parts), norm, rate, skipped)

    def _roughened(self, batch: Batch) -> torch.Tensor:
        """The teacher's frames with some hidden and some noise, (batch, n_mels, frames)."""
        config, model, mels = self.config, self.plain, batch.mels
        if config.frame_noise:
            mels = mels + config.frame_noise * model.mel_deviation * torch.randn_like(mels)
        if config.frame_dropout:
            hidden = torch.rand(mels.shape[0], 1, mels.shape[2], device=mels.device) < config.frame_dropout
            mels = torch.where(hidden, model.mel_mean, mels)
        return mels

    @torch.no_grad()
    def _average(self) -> None:
        # In the beginning the average follows closely, so that it does not remember the start.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        pairs = zip(self.averaged.state_dict().values(), self.plain.state_dict().values(), strict=True)
        average, current = map(list, zip(*((a, c) for a, c in pairs if a.is_floating_point()), strict=True))
        torch._foreach_lerp_(average, current, 1 - decay)

    def _count_bad(self, bad: bool, rate: float) -> None:
        self.bad_steps = self.bad_steps + 1 if bad else 0
        if self.bad_steps >= BAD_STEPS:
            raise TrainingError(
                f"The loss was not a finite number in {BAD_STEPS} steps running, at a learning rate of {rate:.2e}. "
                "The last checkpoint is whole: resume from it with a lower learning rate."
            )

    @torch.no_grad()
    def validate(self, examples: Sequence[Example], *, batch_size: int = 16) -> dict[str, float]:
        """Teacher-forced losses of the speaking model on examples it has not learned from."""
        if not examples:
            return {}
        model, total = self.speaking.eval(), {"mel": 0.0, "gate": 0.0, "attention": 0.0, "pitch": 0.0}
        for at in range(0, len(examples), batch_size):
            part = examples[at : at + batch_size]
            batch = collate(part, model.config.n_frames_per_step).to(self.accelerator.device)
            output = model(batch.text, batch.text_lengths, batch.mels, batch.mel_lengths, batch.speaker, batch.pitch)
            losses = tacotron_loss(model, output, batch.mels, batch.attention, LossConfig(attention=1.0), batch.pitch)
            for name in total:
                total[name] += float(getattr(losses, name)) * len(part) / len(examples)
        return total

    def state(self) -> dict[str, Any]:
        """Everything besides the averaged weights that is needed to go on."""
        state = {
            "step": self.step,
            "optimiser": self.optimiser.state_dict(),
            "weights": {name: t.cpu() for name, t in self.plain.state_dict().items()},
            "random": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["random_cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state(self, state: dict[str, Any], averaged: Tacotron2) -> None:
        """Go on from what `state` gave; `averaged` is the model that was stored beside it."""
        self.step = state["step"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.averaged.load_state_dict(averaged.state_dict())  # first, for `averaged` may be the model that learns
        self.plain.load_state_dict(state["weights"])
        torch.set_rng_state(state["random"])
        if "random_cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])
