"""One optimiser step after another: what adapting to a voice and pretraining on a corpus share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch.utils.data import DataLoader

from .dataset import Batch, Example, Examples, LengthBuckets, collate
from .device import choose_device, fast_precision
from .errors import TrainingError, VoiceCloneError
from .schedule import Cosine, Exponential
from .tacotron2 import Counts, LossConfig, Losses, Tacotron2, loss_counts, tacotron_loss

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BAD_STEPS = 10  # steps in a row without a finite loss after which training gives up


@dataclass(frozen=True)
class LearnConfig:
    """How the weights are changed."""

    batch_size: int = 16  # clips a step, over all processes
    accumulate: int = 1  # parts in which a step takes its clips; doubled by itself when memory does not suffice
    learning_rate: float = 1e-3  # Adam's, at its highest
    final_rate: float = 0.05  # share of it that is left when the budget is spent
    warmup_steps: int = 100  # steps until the rate is at its highest
    schedule: Exponential | None = None  # in the place of the three above
    weight_decay: float = 1e-6  # NVIDIA's
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0  # norm of the gradient at which it is cut (NVIDIA's)
    average: float = 0.999  # decay of the moving average of the weights, which is what speaks; 0 = none
    frame_dropout: float = 0.0  # share of the teacher's frames that are hidden, so that the text matters
    frame_noise: float = 0.0  # noise on the teacher's frames, in deviations of each band
    loss: LossConfig = field(default_factory=LossConfig)
    mixed_precision: str = "no"  # no, bf16 or fp16
    # Let torch compile the decoder's loop: the many small kernels whose start a GPU waits for become few. The first
    # steps take longer; on a processor it saves about a tenth of the others.
    compile: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.accumulate < 1 or self.learning_rate <= 0:
            raise VoiceCloneError(
                f"batch_size={self.batch_size}, accumulate={self.accumulate} and learning_rate={self.learning_rate} "
                "must be above zero."
            )
        if self.mixed_precision not in PRECISIONS:
            raise VoiceCloneError(
                f"mixed_precision={self.mixed_precision!r} is not known; there are {', '.join(PRECISIONS)}."
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
    return LearnConfig(
        batch_size=max(1, min(12 if preset == "small" else 32, count)),
        learning_rate=3e-4 if based else 1e-3,
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
    notes: tuple[str, ...] = ()  # what the user should know


class Learner:
    """A model, its optimiser and the moving average of its weights."""

    def __init__(self, model: Tacotron2, config: LearnConfig, *, device: str | None = None) -> None:
        self.config = config
        self.accelerator = _accelerator(choose_device(device))
        self.processes = self.accelerator.num_processes
        if self.processes > 1:
            from .processes import share_batch_norms

            share_batch_norms(model)
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.set_float32_matmul_precision("high")  # TF32, as cuDNN has it: 10 bits of mantissa are enough here
        self.model = self.accelerator.prepare_model(model)
        self.optimiser = torch.optim.Adam(
            self.plain.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=on_gpu,
        )
        # Gradients too small for fp16 are made larger, and so made smaller again before the step.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.mixed_precision == "fp16")
        self.averaged = self.plain.copy()
        self.plain.decoder.compiled = config.compile
        self.parts = config.accumulate  # of a batch, one after another, where memory does not suffice for it at once
        self.bad_steps = 0
        self.step = 0
        self._differ_from_other_processes()

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    @property
    def plain(self) -> Tacotron2:
        """The model without what accelerate wraps around it."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def speaking(self) -> Tacotron2:
        """The model to speak with: the average of the weights, or the weights where none is kept."""
        return self.averaged if self.config.average else self.plain

    def batches(self, examples: Sequence[Example], *, seed: int, workers: int | None = None) -> Iterator[Batch]:
        """Endless batches on the device, from the learner's step on; of each, this process's share.

        `workers` processes make batches ahead; by default one where a GPU would else wait for them.
        """
        on_gpu = self.device.type == "cuda"
        sampler = LengthBuckets(
            [example.mel.shape[1] for example in examples],
            self.config.batch_size,
            seed=seed,
            first_step=self.step,
        )
        if sampler.smallest < self.processes:
            raise TrainingError(
                f"{self.processes} processes cannot share batches of {sampler.smallest} clips ({len(examples)} clips "
                "in all). Use fewer processes, a larger batch_size, or more clips."
            )
        if self.processes > 1:  # of each part every process needs a clip
            self.parts = min(self.parts, sampler.smallest // self.processes)
        loader = DataLoader(
            Examples(examples),
            batch_sampler=sampler,
            collate_fn=partial(
                collate,
                n_frames_per_step=self.plain.config.n_frames_per_step,
                share=(self.accelerator.process_index, self.processes),
                parts=self.parts,
            ),
            num_workers=int(on_gpu) if workers is None else workers,
            pin_memory=on_gpu,
            generator=torch.Generator(),  # else the loader draws from the one that a resumed run must find unchanged
        )
        for batch in loader:
            yield batch.to(self.device)

    def rate(self, progress: float) -> float:
        """Learning rate at this step, `progress` (0 to 1) of the budget being spent."""
        config = self.config
        schedule = config.schedule or Cosine(config.learning_rate, config.final_rate, config.warmup_steps)
        return schedule.at(self.step, progress)

    def learn(self, batch: Batch, progress: float) -> Learned:
        """Take one step.

        Raises
        ------
        TrainingError
            If the loss has not been a finite number for ten steps, or memory does not suffice for a single clip.
        """
        rate = self.rate(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        statistics = [buffer.clone() for buffer in self.plain.buffers()]  # the forward pass changes the batch norms'
        self.model.train()
        losses, notes = self._gradients(batch), ()
        while losses is None:  # out of memory: the same clips in smaller parts
            self._restore(statistics)
            notes = self._halve(batch)
            losses = self._gradients(batch)
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.plain.parameters(), self.config.grad_clip)
        *losses, norm = torch.cat((losses, norm.reshape(1))).tolist()  # one question, for which a GPU is waited for
        finite = all(map(math.isfinite, losses))
        skipped = not (finite and math.isfinite(norm))
        if skipped:
            self._restore(statistics)
        else:
            self.scaler.step(self.optimiser)
            self._average()
        # Gradients beyond fp16 are no fault of the loss: the scale is lowered until they fit.
        overflow = skipped and finite and self.scaler.is_enabled() and self.scaler.get_scale() > 1
        self.scaler.update()
        self.optimiser.zero_grad()
        self._count_bad(skipped and not overflow, rate)
        self.step += 1
        return Learned(*losses, norm, rate, skipped, notes)

    def _gradients(self, batch: Batch) -> torch.Tensor | None:
        """Add up the gradients of a batch; its losses (5,), those of all processes' clips. None if out of memory."""
        parts, counts = batch.split(self.parts), self._counts(batch)
        losses = torch.zeros(5, device=self.device)
        try:
            for number, part in enumerate(parts, 1):
                with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.model):
                    of_part = self._losses(part, counts)
                    self.scaler.scale(of_part.total).backward()
                each = (of_part.total, of_part.mel, of_part.gate, of_part.attention, of_part.pitch)
                losses += torch.stack([loss.detach().float() for loss in each])
        except torch.OutOfMemoryError as error:
            if self.processes > 1:  # the others wait for this one's gradients
                raise TrainingError(
                    f"The memory of {self.device} does not suffice for its share of {len(batch.text)} clips. "
                    f"Give a batch_size below {self.config.batch_size}, or accumulate={2 * self.parts} in LearnConfig."
                ) from error
            return None
        except torch._dynamo.exc.TorchDynamoException as error:
            raise TrainingError(
                f"torch cannot compile here: {str(error).splitlines()[0]} Train without compile, which learns the same."
            ) from error
        return self._sum_over_processes(losses) / self.processes

    def _counts(self, batch: Batch) -> Counts:
        """Of all processes' clips, as a mean over the processes, since their gradients become a mean, too."""
        n_frames_per_step = self.plain.config.n_frames_per_step
        counts = loss_counts(batch.mel_lengths, batch.mels.shape[2], n_frames_per_step, batch.attention, batch.pitch)
        return Counts(*self._sum_over_processes(torch.stack(counts)) / self.processes)

    def _losses(self, batch: Batch, counts: Counts) -> Losses:
        precision = self.config.mixed_precision
        with torch.autocast(self.device.type, PRECISIONS[precision], enabled=precision != "no"):
            output = self.model(
                batch.text, batch.text_lengths, self._roughened(batch), batch.mel_lengths, batch.speaker, batch.pitch
            )
        return tacotron_loss(self.plain, output, batch.mels, batch.attention, self.config.loss, batch.pitch, counts)

    def agree(self, value: float) -> float:
        """What the main process says, which the others hear: clocks and previews are its alone."""
        if self.processes == 1:
            return value
        return float(broadcast(torch.tensor([value], dtype=torch.float64, device=self.device)))

    def _sum_over_processes(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values, "sum") if self.processes > 1 else values

    def _restore(self, statistics: Sequence[torch.Tensor]) -> None:
        """Undo what the forward pass did to the batch norms."""
        for buffer, before in zip(self.plain.buffers(), statistics, strict=True):
            buffer.copy_(before)

    def _halve(self, batch: Batch) -> tuple[str, ...]:
        """Take batches in twice as many parts from now on; what to say of it."""
        self.optimiser.zero_grad()
        if self.parts >= len(batch.text):
            raise TrainingError(
                f"The memory of {self.device} does not suffice for a single clip of {batch.mels.shape[2]} frames. "
                "Train with preset='small', split long clips, or use a larger GPU."
            )
        self.parts = min(2 * self.parts, len(batch.text))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        count = len(batch.text)
        return (f"Memory does not suffice for {count} clips at once: each step takes them in {self.parts} parts.",)

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
            batch = collate(part, model.config.n_frames_per_step).to(self.device)
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
            "scaler": self.scaler.state_dict(),
            "parts": self.parts,
            "processes": self.processes,
        }
        if self.device.type == "cuda":
            state["random_gpu"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state(self, state: dict[str, Any], averaged: Tacotron2) -> None:
        """Go on from what `state` gave; `averaged` is the model that was stored beside it."""
        self.step = state["step"]
        groups = [group | {"fused": self.device.type == "cuda"} for group in state["optimiser"]["param_groups"]]
        self.optimiser.load_state_dict(state["optimiser"] | {"param_groups": groups})  # it may come from another device
        self.averaged.load_state_dict(averaged.state_dict())  # first, for `averaged` may be the model that learns
        self.plain.load_state_dict(state["weights"])
        if state.get("scaler") and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        # As many clips at once as there was memory for, however many processes share them now.
        parts = math.ceil(state.get("parts", 1) * state.get("processes", 1) / self.processes)
        self.parts = max(parts, self.config.accumulate)
        torch.set_rng_state(state["random"])
        if "random_gpu" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_gpu"], self.device)
        self._differ_from_other_processes()

    def _differ_from_other_processes(self) -> None:
        """Let each process drop out and roughen differently, or their shares of a batch would be alike in that."""
        if self.accelerator.process_index:
            torch.manual_seed(int(torch.randint(2**31, ())) + self.accelerator.process_index)


def _accelerator(device: str) -> Accelerator:
    """Where this process computes, and with which others; accelerate's launchers have said so in the environment."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        # A notebook may change device between runs, which accelerate's shared state does not expect. Processes that
        # were launched together keep it, since it is how they know each other.
        AcceleratorState._reset_state(reset_partial_state=True)
        if ":" in device:  # one of several GPUs, which accelerate leaves to torch
            torch.cuda.set_device(device)
    return Accelerator(mixed_precision="no", cpu=device == "cpu")
