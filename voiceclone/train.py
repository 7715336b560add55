"""Teaching Tacotron 2 one voice.

`train` yields a `Step` for every optimiser step and keeps everything in ``runs/<run>/``: the configuration, a log of
one line a step, checkpoints from which it goes on after any interruption, and previews of what the voice says. The
best checkpoint is the one whose sentences are heard best, not the one with the lowest loss.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .audio import AudioConfig, load
from .dataset import Example, mel_statistics, split_clips, voice_examples
from .device import choose_device
from .errors import CheckpointError, TrainingError
from .files import alone
from .learn import Learned, Learner
from .listen import Listener, Preview
from .processes import is_main, wait_for_main
from .runs import Run
from .settle import settle, share_learned
from .tacotron2 import Tacotron2, Tacotron2Config, warm_start
from .tacotron2.checkpoint import Checkpoint, adopt, with_dropouts
from .text import FRONT_END
from .train_config import TrainConfig, random_start, share_spent
from .voice import Clip, Voice

GOOD_COUNT = 20  # clips from which a voice is learned well
# One misheard word of the previews' 59 is chance: a later checkpoint that is no worse than that takes over.
CLEARLY = 0.02


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
    seconds_left: float | None = None  # until the budget is spent, as fast as it went in this session
    validation: dict[str, float] = field(default_factory=dict)  # losses on held-out clips, word_error_rate, problems
    preview: Preview | None = None
    checkpoint: str | None = None  # name of the file that was written
    notes: tuple[str, ...] = ()  # what the user should know

    def as_dict(self) -> dict[str, Any]:
        """One line of ``log.jsonl``, without sounds and pictures."""
        content = asdict(replace(self, preview=None))
        content.pop("preview")
        # JSON has no NaN and no infinity; a step that was skipped for such a value says null.
        wrong = {name for name, value in content.items() if isinstance(value, float) and not math.isfinite(value)}
        return {name: None if name in wrong else value for name, value in content.items()}


def train(
    voice: Voice, config: TrainConfig = TrainConfig(), *, progress: Callable[[Clip], None] | None = None
) -> Iterator[Step]:
    """Train a voice; stop at any moment, call again with the same run to go on.

    Of several processes that ``accelerate launch`` started, the main one alone yields, listens and writes.

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
        If there is nothing to learn from, the run was begun with another preset or start or holds a voice that was not
        trained here or is being trained already, or the loss stays infinite.
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
    config, folder = config.for_clips(len(voice.usable())), voice.run_dir(config.run)
    main = is_main(choose_device(config.device))
    with alone(folder) if main else nullcontext():
        if config.resume and _finished(folder, voice, config):
            run = Run(folder)
            if run.keeper.apart and main:  # what the last session could not bring there
                run.fetch()
                run.close()
            return
        yield from _Training(voice, config, progress).steps()


def _finished(run: Path, voice: Voice, config: TrainConfig) -> bool:
    """Whether the run's budget was spent on the clips as they are; asks no model to be loaded."""
    try:
        content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    config.check_start(content.get("start"), run)
    spent = content.get("spent", {})
    return (
        content.get("data") == voice.content_hash()
        and content.get("preset") == config.preset
        and share_spent(config, **spent) >= 1
        and (run / "checkpoints" / "best.pt").exists()
    )


class _Training:
    """One session of training: what is prepared once, and what changes from step to step."""

    def __init__(self, voice: Voice, config: TrainConfig, progress: Callable[[Clip], None] | None) -> None:
        self.voice, self.config = voice, config
        self.data = voice.content_hash()
        self.device = choose_device(config.device)
        self.main = is_main(self.device)
        self.run = Run(voice.run_dir(config.run))
        self.run.check_nothing_is_lost()
        if self.main and config.resume:
            self.run.fetch()
        wait_for_main(self.device)
        torch.manual_seed(config.seed)
        self.speaker = _voice_embedding(voice) if config.sizes.speaker_dim else None
        examples = voice_examples(voice, AudioConfig(), self.speaker, progress)
        ids = [example.id for example in examples]
        split = split_clips(ids, self.run.folder / "split.json", seed=config.seed, write=self.main)
        self.training = [example for example in examples if example.id in split.training]
        self.held_out = [example for example in examples if example.id in split.validation]
        self.notes = _notes(examples)
        self.listener = Listener(config.listener, config.vocoder, self.speaker, self.device)
        self._begin()

    def _begin(self) -> None:
        """Load what to start from, or where the run was."""
        config = self.config
        newest = self.run.newest() if config.resume else None
        if config.resume and not newest:
            self.run.check_nothing_is_lost(torn=True)
        if newest:
            # Clips that have changed are learned with what is known; the same clips go on as they began.
            model, known = with_dropouts(newest[1].model, config.sizes), newest[1].training
            self.based = known.get("based", True) or known["data"] != self.data
            self._check_same_model(*newest)
            self.start = known.get("start")  # older files lack it
            config.check_start(self.start, self.run.folder)
            self.base = known.get("base")
            model.load_state_dict(known.get("averaged", model.state_dict()))  # the file's own model speaks
        else:
            self.start = config.begins_with or "scratch"
            model, self.based, many_voices, notes = _starting_model(config, self.training)
            self.notes += notes
            # Only a base that knows many voices can be gone back to: another would speak with its own.
            self.base = {name: t.clone() for name, t in model.state_dict().items()} if many_voices else None
        learn = config.learn_config(len(self.training), based=self.based, device=self.device)
        self.learner = Learner(model, learn, device=self.device)
        self.seconds_before, self.first_step, self.best = 0.0, 0, float("inf")
        if newest:
            self.learner.load_state(known["learner"], model)
            if known["data"] == self.data:
                self.seconds_before, self.first_step = known["seconds"], known["first_step"]
                self.best = known["best"] if self.run.has_best else self.best
            else:  # the clips have changed since: the model is kept, the budget begins anew
                self.first_step = self.learner.step
        self.began = time.monotonic()
        if self.main:
            if not newest:
                self.run.forget()
            self.notes += self.run.go_on(self.learner.step, tensorboard=config.tensorboard)
            self._write_config()

    def _check_same_model(self, path: Path, checkpoint: Checkpoint) -> None:
        was, wanted = checkpoint.training["preset"], self.config.preset
        if was != wanted or checkpoint.model.config.speaker_dim != self.config.sizes.speaker_dim:
            with_speaker = ["without", "with"][bool(checkpoint.model.config.speaker_dim)]
            raise TrainingError(
                f"{path} is of the preset {was!r} ({with_speaker} a speaker embedding), asked for is {wanted!r} with "
                f"speaker={self.config.speaker}. Give another run=, or resume=False."
            )

    @property
    def seconds(self) -> float:
        """Of training, over all sessions."""
        return self.seconds_before + time.monotonic() - self.began

    def steps(self) -> Iterator[Step]:
        learner, spent_before = self.learner, self._share_spent()
        batches = learner.batches(self.training, seed=self.config.seed)
        self.saved, notes, share = learner.step, self.notes, spent_before
        try:
            while (share := learner.agree(share)) < 1:
                before, learned = share, learner.learn(next(batches), share)
                share = self._share_spent()
                if not self.main:
                    continue
                step = self._record(learned, notes + self.run.keeper.notes(), share, spent_before)
                notes = ()
                if self._previews_due(share) > self._previews_due(before):
                    step = self._listen(step)
                self.run.log(step)
                try:
                    yield step
                except GeneratorExit:
                    learner.agree(1.0)  # the other processes wait to hear whether to go on
                    raise
        finally:
            if self.main:
                self._end()

    def _end(self) -> None:
        try:
            if self.learner.step > self.saved:  # stopped between two previews: nothing of it is lost
                self._save(self._settled(), None)
            self._write_config()
        finally:
            self.run.close()

    @property
    def _spent(self) -> dict[str, float]:
        steps = self.learner.step - self.first_step
        return {"steps": steps, "seconds": self.seconds, "epochs": steps / self._batches_per_epoch}

    @property
    def _batches_per_epoch(self) -> int:
        return -(-len(self.training) // self.learner.config.batch_size)

    def _share_spent(self) -> float:
        return share_spent(self.config, **self._spent)

    def _previews_due(self, share: float) -> int:
        return int(min(share, 1.0) * self.config.previews_due)

    def _record(self, learned: Learned, notes: tuple[str, ...], share: float, share_before: float) -> Step:
        seconds = self.seconds
        pace = (seconds - self.seconds_before) / (share - share_before)  # seconds for a whole budget
        return Step(
            step=self.learner.step,
            epoch=self.learner.step / self._batches_per_epoch,
            loss=learned.loss,
            mel_loss=learned.mel_loss,
            gate_loss=learned.gate_loss,
            attention_loss=learned.attention_loss,
            pitch_loss=learned.pitch_loss,
            grad_norm=learned.grad_norm,
            learning_rate=learned.learning_rate,
            seconds=seconds,
            seconds_left=max(0.0, 1 - share) * pace,
            notes=notes + learned.notes,
        )

    def _listen(self, step: Step) -> Step:
        """Let the voice speak, judge it, and write a checkpoint; it becomes the best if it is heard best."""
        learner = self.learner
        shown = (self.held_out or self.training)[0]
        losses = learner.validate(self.held_out)
        speaking = self._settled()
        judgement = self.listener.judge(speaking, step.step, losses, shown, self.config.seed)
        path = self._save(speaking, judgement.worth, judgement.measures)
        self.run.save_preview(judgement.preview)
        self._write_config()
        return replace(step, validation=judgement.measures, preview=judgement.preview, checkpoint=path.name)

    def _settled(self) -> Tacotron2:
        """The model to speak with, as far as it has come."""
        return settle(self.learner.speaking, self.base, share_learned(len(self.training)), self.training)

    def _save(self, speaking: Tacotron2, worth: float | None, measures: dict[str, float] | None = None) -> Path:
        """Write a checkpoint to resume from, and the best unless an earlier one was heard clearly better."""
        learner = self.learner
        best = worth is not None and worth <= self.best + CLEARLY
        if best:
            self.best = min(worth, self.best)
        training = {
            "preset": self.config.preset,
            "learner": learner.state(),
            "averaged": {name: t.cpu() for name, t in learner.speaking.state_dict().items()},
            "base": self.base,
            "start": self.start,
            "data": self.data,
            "based": self.based,
            "seconds": self.seconds,
            "first_step": self.first_step,
            "best": self.best,
        }
        checkpoint = Checkpoint(speaking, learner.step, self.speaker, training, measures or {})
        self.saved = learner.step
        return self.run.save(checkpoint, best=best)

    def _write_config(self) -> None:
        self.run.write_config(
            {
                "preset": self.config.preset,
                "front_end": FRONT_END,
                "start": self.start,
                "data": self.data,
                "clips": len(self.training),
                "config": asdict(self.config) | {"learn": asdict(self.learner.config)},
                "model": asdict(self.learner.plain.config),
                "spent": self._spent,
            }
        )


class _Start(NamedTuple):
    """What training begins with."""

    model: Tacotron2
    based: bool  # it knows how to speak already
    many_voices: bool  # and with many voices
    notes: tuple[str, ...]  # what the user should know of it


def _starting_model(config: TrainConfig, examples: Sequence[Example]) -> _Start:
    start = config.begins_with
    if start in (None, "scratch"):
        model = Tacotron2(config.sizes)
        if model.config.normalise_mels:
            model.set_mel_statistics(*mel_statistics(examples))
        return _Start(model, False, False, () if start else (random_start(config.preset),))
    try:
        started = warm_start(start, config.sizes)
    except CheckpointError:
        if not config.speaker:
            raise
        return _with_speaker(start, config.sizes)
    return _Start(started.model, True, bool(config.sizes.speaker_dim), started.notes)


def _with_speaker(start: str, sizes: Tacotron2Config) -> _Start:
    """A model with a speaker embedding begun from one without; the embedding says nothing at first."""
    started = warm_start(start, replace(sizes, speaker_dim=0))
    model = Tacotron2(sizes)
    adopt(model, started.model)
    torch.nn.init.zeros_(model.speaker_projection.weight)
    torch.nn.init.zeros_(model.speaker_projection.bias)
    return _Start(model, True, False, started.notes)


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
