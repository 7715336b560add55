"""Teaching Tacotron 2 one voice.

`train` yields a `Step` for every optimiser step and keeps everything in ``runs/<run>/``: the configuration, a log of
one line a step, checkpoints from which it goes on after any interruption, and previews of what the voice says. The
best checkpoint is the one whose sentences are heard best, not the one with the lowest loss.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .audio import AudioConfig, load
from .dataset import Example, split_clips, voice_examples
from .device import choose_device
from .errors import CheckpointError, TrainingError, VoiceCloneError
from .files import atomic_write
from .learn import LearnConfig, Learned, Learner, learn_config
from .listen import Listener, Preview
from .tacotron2 import PRESETS, Tacotron2, load_nvidia
from .tacotron2.checkpoint import Checkpoint, load_base, load_checkpoint, newest_checkpoint, save_checkpoint
from .text import FRONT_END
from .voice import Clip, Voice

BASE = Path(__file__).parent.parent / "data" / "base"  # made by `python -m voiceclone pretrain`
DEFAULT_MINUTES = {"small": 8.0, "full": 120.0}
KEPT_CHECKPOINTS = 2  # of those to resume from; the best is kept besides
GOOD_COUNT = 20  # clips from which a voice is learned well


@dataclass(frozen=True)
class TrainConfig:
    """How a voice is trained. The budget is in minutes or in steps, whichever is spent first."""

    preset: str = "small"  # small (a laptop) or full (a GPU)
    minutes: float | None = None  # over all sessions; None = 8 for small, 120 for full, unless steps are given
    steps: int | None = None  # optimiser steps, over all sessions
    run: str = "main"  # name of the folder below runs/
    resume: bool = True  # go on from the newest whole checkpoint; False begins anew
    start: str | None = None  # a base's folder, an NVIDIA checkpoint's file, or "scratch"; None = data/base for small
    previews: int = 6  # how often over the budget the voice is listened to; at most once a minute
    listener: str = "whisper"  # engine that hears the previews; "" judges by alignment and loss alone
    vocoder: str = "hifigan"
    seed: int = 1234
    device: str | None = None  # None chooses
    learn: LearnConfig | None = None  # None = `learn_config`

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise VoiceCloneError(f"preset={self.preset!r} is not known; there are {', '.join(PRESETS)}.")
        if any(budget is not None and budget <= 0 for budget in (self.minutes, self.steps)) or self.previews < 1:
            raise VoiceCloneError(
                f"minutes={self.minutes}, steps={self.steps} and previews={self.previews} must be above zero."
            )

    @property
    def minutes_budget(self) -> float | None:
        """Minutes after which training ends, if time ends it."""
        return DEFAULT_MINUTES[self.preset] if self.minutes is None and self.steps is None else self.minutes

    @property
    def previews_due(self) -> int:
        """Previews over the budget: each costs some ten seconds on a laptop, which a short budget cannot spare."""
        return self.previews if self.minutes_budget is None else max(1, min(self.previews, int(self.minutes_budget)))


@dataclass(frozen=True)
class Step:
    """One optimiser step, and now and then what was heard after it."""

    step: int
    epoch: float
    loss: float
    mel_loss: float
    gate_loss: float
    attention_loss: float
    pitch_loss: float
    grad_norm: float
    learning_rate: float
    seconds: float  # of training, over all sessions
    validation: dict[str, float] = field(default_factory=dict)  # losses on held-out clips, word_error_rate, problems
    preview: Preview | None = None
    checkpoint: str | None = None  # name of the file that was written
    notes: tuple[str, ...] = ()  # what the user should know

    def as_dict(self) -> dict[str, Any]:
        """One line of ``log.jsonl``, without sounds and pictures."""
        content = asdict(replace(self, preview=None))
        content.pop("preview")
        # JSON has no NaN; a step that was skipped for it says null.
        return {name: None if value != value else value for name, value in content.items()}


def train(
    voice: Voice, config: TrainConfig = TrainConfig(), *, progress: Callable[[Clip], None] | None = None
) -> Iterator[Step]:
    """Train a voice; stop at any moment, call again with the same run to go on.

    Parameters
    ----------
    voice : Voice
        With recorded consent and at least one clip that is accepted and cleaned.
    config : TrainConfig
    progress : callable or None
        Called with each clip while phone times are found.

    Yields
    ------
    Step
        One a step; nothing when the budget of this run has been spent on these very clips.

    Raises
    ------
    TrainingError
        If there is nothing to learn from, the run was begun with another preset, or the loss stays infinite.
    CheckpointError
        If what to start from cannot be read.
    """
    if not voice.consent.who:
        raise TrainingError(f"{voice.name} has no recorded consent; without it no voice is trained (notebook 00).")
    if not voice.usable():
        raise TrainingError(
            f"{voice.name} has no clip to learn from: {len(voice.clips)} clips in clips.csv, none of them accepted and "
            "cleaned. Record (notebook 01), transcribe (02) and clean (03) first."
        )
    run = voice.run_dir(config.run)
    if config.resume and _finished(run, voice, config):
        return
    yield from _Training(voice, config, run, progress).steps()


def _finished(run: Path, voice: Voice, config: TrainConfig) -> bool:
    """Whether the run's budget was spent on the clips as they are; asks no model to be loaded."""
    try:
        content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    spent = content.get("spent", {})
    return (
        content.get("data") == voice.content_hash()
        and content.get("preset") == config.preset
        and _share(config, spent.get("steps", 0), spent.get("seconds", 0.0)) >= 1
        and any((run / "checkpoints").glob("best.pt"))
    )


def _share(config: TrainConfig, steps: int, seconds: float) -> float:
    """Share of the budget that is spent, from 0."""
    shares = []
    if config.minutes_budget is not None:
        shares.append(seconds / (60 * config.minutes_budget))
    if config.steps is not None:
        shares.append(steps / config.steps)
    return max(shares)


class _Training:
    """One session of training: what is prepared once, and what changes from step to step."""

    def __init__(
        self, voice: Voice, config: TrainConfig, run: Path, progress: Callable[[Clip], None] | None
    ) -> None:
        self.voice, self.config, self.run = voice, config, run
        self.data = voice.content_hash()
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        sizes = PRESETS[config.preset]
        self.speaker = _voice_embedding(voice) if sizes.speaker_dim else None
        examples = voice_examples(voice, AudioConfig(), self.speaker, progress)
        split = split_clips([example.id for example in examples], run / "split.json", seed=config.seed)
        self.training = [example for example in examples if example.id in split.training]
        self.held_out = [example for example in examples if example.id in split.validation]
        self.notes = _notes(examples)
        self.listener = Listener(config.listener, config.vocoder, self.speaker, self.device)
        self._begin()

    def _begin(self) -> None:
        """Load what to start from, or where the run was."""
        config = self.config
        newest = newest_checkpoint(self.run / "checkpoints") if config.resume else None
        if newest:
            # Clips that have changed are learned with what is known; the same clips go on as they began.
            model, known = newest[1].model, newest[1].training
            self.based = known.get("based", True) or known["data"] != self.data
        else:
            model, self.based = _starting_model(config, self.training)
        learn = config.learn or learn_config(config.preset, len(self.training), based=self.based, device=self.device)
        self.learner = Learner(model, learn, device=self.device)
        self.seconds_before, self.first_step, self.best = 0.0, 0, float("inf")
        if newest:
            path, checkpoint = newest
            if (was := checkpoint.training["preset"]) != config.preset:
                raise TrainingError(
                    f"{path} is of the preset {was!r}, asked for is {config.preset!r}. "
                    "Give another run=, or resume=False."
                )
            self.learner.load_state(checkpoint.training["learner"], checkpoint.model)
            if checkpoint.training["data"] == self.data:
                self.seconds_before = checkpoint.training["seconds"]
                self.first_step = checkpoint.training["first_step"]
                self.best = checkpoint.training["best"]
            else:  # the clips have changed since: the model is kept, the budget begins anew
                self.first_step = self.learner.step
        else:
            for stale in (*self.run.glob("checkpoints/*.pt"), *self.run.glob("previews/step-*")):
                stale.unlink()
        self._cut_log()
        self.began = time.monotonic()
        self._write_config()

    @property
    def seconds(self) -> float:
        """Of training, over all sessions."""
        return self.seconds_before + time.monotonic() - self.began

    def steps(self) -> Iterator[Step]:
        config, learner = self.config, self.learner
        batches = learner.batches(self.training, seed=config.seed)
        saved, notes = learner.step, self.notes
        share = self._spent()
        due = int(share * config.previews_due)  # previews that are over
        try:
            while share < 1:
                learned = learner.learn(next(batches), share)
                share = self._spent()
                step = self._record(learned, notes)
                notes = ()
                if (now_due := int(min(share, 1.0) * config.previews_due)) > due:
                    due = now_due
                    step = self._listen(step)
                    saved = learner.step
                self._log(step)
                yield step
        finally:
            if learner.step > saved:  # stopped between two previews: nothing of it is lost
                self._save(None)
            self._write_config()

    def _spent(self) -> float:
        return _share(self.config, self.learner.step - self.first_step, self.seconds)

    def _record(self, learned: Learned, notes: tuple[str, ...]) -> Step:
        batches = -(-len(self.training) // self.learner.config.batch_size)
        return Step(
            step=self.learner.step,
            epoch=self.learner.step / batches,
            loss=learned.loss,
            mel_loss=learned.mel_loss,
            gate_loss=learned.gate_loss,
            attention_loss=learned.attention_loss,
            pitch_loss=learned.pitch_loss,
            grad_norm=learned.grad_norm,
            learning_rate=learned.learning_rate,
            seconds=self.seconds,
            notes=notes,
        )

    def _listen(self, step: Step) -> Step:
        """Let the voice speak, judge it, and write a checkpoint; it becomes the best if it is heard best."""
        learner = self.learner
        shown = (self.held_out or self.training)[0]
        losses = learner.validate(self.held_out)
        judgement = self.listener.judge(learner.speaking, step.step, losses, shown, self.config.seed)
        path = self._save(judgement.worth, judgement.measures)
        judgement.preview.save(self.run / "previews")
        return replace(step, validation=judgement.measures, preview=judgement.preview, checkpoint=path.name)

    # Keeping ------------------------------------------------------------------------------------------------------

    def _save(self, worth: float | None, measures: dict[str, float] | None = None) -> Path:
        """Write a checkpoint to resume from, and the best if it is; drop the oldest."""
        folder, learner = self.run / "checkpoints", self.learner
        if worth is not None and worth <= self.best:
            self.best = worth
            save_checkpoint(
                folder / "best.pt", Checkpoint(learner.speaking, learner.step, self.speaker, measures=measures or {})
            )
        training = {
            "preset": self.config.preset,
            "learner": learner.state(),
            "data": self.data,
            "based": self.based,
            "seconds": self.seconds,
            "first_step": self.first_step,
            "best": self.best,
        }
        path = save_checkpoint(
            folder / f"step-{learner.step:06d}.pt",
            Checkpoint(learner.speaking, learner.step, self.speaker, training, measures or {}),
        )
        for old in sorted(folder.glob("step-*.pt"))[:-KEPT_CHECKPOINTS]:
            old.unlink()
        return path

    def _log(self, step: Step) -> None:
        with (self.run / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(step.as_dict()) + "\n")

    def _cut_log(self) -> None:
        """Drop what the log says of steps after the checkpoint: they will be taken again."""
        path = self.run / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= self.learner.step]
        if kept != lines:
            with atomic_write(path, "w") as file:
                file.writelines(kept)

    def _write_config(self) -> None:
        content = {
            "preset": self.config.preset,
            "front_end": FRONT_END,
            "data": self.data,
            "clips": len(self.training),
            "config": asdict(self.config) | {"learn": asdict(self.learner.config)},
            "model": asdict(self.learner.plain.config),
            "spent": {"steps": self.learner.step - self.first_step, "seconds": self.seconds},
        }
        with atomic_write(self.run / "config.json", "w") as file:
            json.dump(content, file, indent=1)


def _starting_model(config: TrainConfig, examples: Sequence[Example]) -> tuple[Tacotron2, bool]:
    """The model to begin with, and whether it knows how to speak already."""
    from .pretrain import mel_statistics

    start = config.start
    if start is None:
        start = str(BASE) if config.preset == "small" and (BASE / "config.json").exists() else "scratch"
    if start == "scratch":
        model = Tacotron2(PRESETS[config.preset])
        if model.config.normalise_mels:
            model.set_mel_statistics(*mel_statistics(examples))
        return model, False
    path = Path(start)
    if path.is_dir():
        model = load_base(path)
    elif path.suffix == ".pt":
        model = load_checkpoint(path).model
    else:
        model = load_nvidia(path)
    if model.config != PRESETS[config.preset]:
        raise CheckpointError(
            f"{path} has other sizes than the preset {config.preset!r}. Choose the preset that it was made with."
        )
    return model, True


def _voice_embedding(voice: Voice) -> torch.Tensor:
    """Mean speaker embedding of a voice's clips, (256,)."""
    from .speaker import embed, mean_embedding

    embeddings = [embed(*load(voice.clip_path(clip.id), sample_rate=None)) for clip in voice.usable()]
    return torch.from_numpy(np.asarray(mean_embedding(embeddings), dtype=np.float32))


def _notes(examples: Sequence[Example]) -> tuple[str, ...]:
    """What the user should know before waiting."""
    notes = []
    minutes = sum(example.mel.shape[1] for example in examples) / AudioConfig().frames_per_second / 60
    if len(examples) < GOOD_COUNT:
        notes.append(
            f"{len(examples)} clip{'s' * (len(examples) > 1)} ({minutes:.1f} min) are few: the voice will be "
            "recognised, but its rhythm and rarer sounds will be the base's. 25 clips give a good voice; "
            "record more in notebook 01."
        )
    if unaligned := [example.id for example in examples if example.ends is None]:
        notes.append(
            f"Clips {', '.join(unaligned)} could not be aligned with their texts and teach attention only roughly: "
            "check their transcripts in notebook 02."
        )
    return tuple(notes)
