"""Fine-tuning HiFi-GAN to one voice (Kong et al. 2020, section 4.4): on spectrograms that its Tacotron 2 draws.

`tune` yields a `TuneStep` for every optimiser step and keeps everything in ``runs/<run>/vocoder/``: ``generator.pt``,
which every tool for HiFi-GAN reads and `load_vocoder` takes as ``hifigan:<file>``, checkpoints from which it goes on
after any interruption, a log and the configuration. Where that is on a drive, `Keeper` brings them there.

The generator begins with the authors' universal weights, the discriminators with random ones. Judges who know nothing
yet would spoil what the generator knows: at first it learns from the spectrogram alone while they learn, then their
share rises to the paper's. What speaks has gone a third of the way from the universal weights to those that were
learned, as `voiceclone.settle` has it for Tacotron 2: most of the voice's colour, and understood as well as before.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..audio import AudioConfig
from ..device import choose_device
from ..drive import Keeper
from ..errors import CheckpointError, TrainingError, VoiceCloneError
from ..files import atomic_write, file_hash, text_hash
from ..log import Log
from ..weights import write_weights
from .aligned import AlignedClip, aligned_clips, cut
from .fitting import Budget, Checkpoints, choose_pieces
from .hifigan import Weights, authors_weights, build_generator, build_trainable, read_generator
from .hifigan_discriminators import Discriminators
from .hifigan_tuner import Tuned, Tuner
from .tuned import FOLDER, GENERATOR, generator_of, tuning_of

if TYPE_CHECKING:
    from ..voice import Clip, Voice

DEFAULT_MINUTES = 30.0


@dataclass(frozen=True)
class TuneConfig:
    """How a vocoder is fine-tuned. The budget is in minutes or in steps, whichever is spent first."""

    minutes: float | None = None  # over all sessions; None = 30, unless steps are given
    steps: int | None = None  # optimiser steps, over all sessions
    run: str | None = None  # whose Tacotron 2 draws the spectrograms; None = the one that was worked on last
    checkpoint: str = "best"  # of that run
    start: str | None = None  # a generator's file, or what `fetch` takes; None = the authors' universal one
    resume: bool = True  # go on from the newest whole checkpoint; False begins anew
    batch_size: int | None = None  # pieces a step; None = the paper's 16 on a GPU, 2 without
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
    save_minutes: float = 10.0  # between checkpoints
    seed: int = 1234
    device: str | None = None  # None chooses

    def __post_init__(self) -> None:
        positive = ("batch_size", "piece", "learning_rate", "discriminator_rate", "alone_steps", "alone_share")
        wrong = {name: value for name in positive if (value := getattr(self, name)) is not None and value <= 0}
        if wrong:
            raise VoiceCloneError(f"{', '.join(f'{k}={v}' for k, v in wrong.items())} must be above zero.")
        if not 0 < self.share <= 1:
            raise VoiceCloneError(f"share={self.share} must be above 0, where nothing was learned, and at most 1.")

    @property
    def budget(self) -> Budget:
        """How long to train."""
        return Budget(DEFAULT_MINUTES if self.minutes is None and self.steps is None else self.minutes, self.steps)


@dataclass(frozen=True)
class TuneStep:
    """One optimiser step."""

    step: int
    epoch: float  # passes over the clips
    learned: Tuned
    learning_rate: float
    seconds: float  # of fine-tuning, over all sessions
    checkpoint: str | None = None  # name of the file that was written

    def as_dict(self) -> dict[str, Any]:
        """One line of ``log.jsonl``."""
        content = asdict(self)
        return content | content.pop("learned")


# A voice ----------------------------------------------------------------------------------------------------------


def tune(
    voice: Voice, config: TuneConfig = TuneConfig(), *, progress: Callable[[Clip], None] | None = None
) -> Iterator[TuneStep]:
    """Fine-tune HiFi-GAN to a trained voice; stop at any moment, call again to go on.

    Parameters
    ----------
    voice : Voice
        With recorded consent, and trained.
    config : TuneConfig
    progress : callable or None
        Called with each clip whose spectrogram was drawn.

    Yields
    ------
    TuneStep
        One a step; nothing when the budget was spent on these very clips and this very Tacotron 2.

    Raises
    ------
    TrainingError
        If nobody consented, or the loss is no longer a number.
    CheckpointError
        If the voice has not been trained, or the generator to start from cannot be read.
    VoiceCloneError
        If what was tuned before lies on a drive and cannot be read: to begin anew would lose it.

    Warns
    -----
    UserWarning
        If the drive on which the voice lies cannot be written: tuning goes on, on this machine.
    """
    from ..synthesize import find_checkpoint

    if not voice.consent.who:
        raise TrainingError(f"{voice.name} has no recorded consent; without it no voice is trained (notebook 00).")
    acoustic = find_checkpoint(voice, config.run, config.checkpoint)
    if not voice.usable():
        raise TrainingError(f"{voice.name} has no clip to learn from: none is accepted and cleaned (notebooks 01-03).")
    begins, drawn_by = _named(config.start), file_hash(acoustic)
    lesson = _Lesson(text_hash(voice.content_hash(), drawn_by, begins), begins, acoustic.name, drawn_by)
    run = acoustic.parent.parent
    if config.resume and _finished(generator_of(run), lesson, config):
        keeper = Keeper(run / FOLDER)
        if keeper.work.is_dir():  # what the last session on this machine could not bring there
            keeper.fetch()
            keeper.close()
        return
    device = choose_device(config.device)
    clips = aligned_clips(voice, acoustic, device=device, seed=config.seed, progress=progress)
    training, _ = divide(clips, run)
    yield from _Tuning(run / FOLDER, lesson, training or clips, config, device).steps()


@dataclass(frozen=True)
class _Lesson:
    """By what a later session knows whether all is as it was; ``config.json`` holds it."""

    data: str  # hash of the clips, of the Tacotron 2 that draws them, and of the generator to begin with
    begins: str  # hash of the generator to begin with, "" of the universal one
    checkpoint: str  # name of the Tacotron 2's file
    drawn_by: str  # its hash


def divide(clips: Sequence[AlignedClip], run: Path) -> tuple[list[AlignedClip], list[AlignedClip]]:
    """Clips to learn from, and those that the run held out: neither Tacotron 2 nor the vocoder has learned them."""
    from ..dataset import split_clips

    split = split_clips([clip.id for clip in clips], run / "split.json")
    return [c for c in clips if c.id in split.training], [c for c in clips if c.id in split.validation]


def _finished(generator: Path, lesson: _Lesson, config: TuneConfig) -> bool:
    """Whether the budget was spent on this data, for this share of it; asks no model to be loaded."""
    known = tuning_of(generator)
    if known.get("data") != lesson.data or not generator.is_file():
        return False
    return known["config"]["share"] == config.share and config.budget.spent(**known["spent"]) >= 1


def _here(start: str | None) -> str | Path | None:
    """A generator's file, fetched first if it is elsewhere."""
    from ..download import fetch, is_elsewhere

    return fetch(start).path if start and is_elsewhere(start) else start


def _named(start: str | None) -> str:
    """By what a generator to begin with is known again, whatever its file is called: a hash, "" of the universal one.

    Raises
    ------
    CheckpointError
        If it is no generator for the spectrograms of Tacotron 2.
    """
    if start is None:
        return ""
    path = _here(start)
    generator = build_generator(read_generator(path), path)
    bands, expected = generator.conv_pre.in_channels, AudioConfig().n_mels
    if bands != expected:
        raise CheckpointError(f"{path} is a generator for {bands} bands, expected {expected}. Choose another one.")
    return file_hash(path)


class _Tuning:
    """One session: what is prepared once, and what changes from step to step."""

    def __init__(
        self, folder: Path, lesson: _Lesson, clips: Sequence[AlignedClip], config: TuneConfig, device: str
    ) -> None:
        self.lesson, self.clips, self.config = lesson, clips, config
        self.keeper = Keeper(folder)
        self.folder = self.keeper.work
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.keeper)
        self.log = Log(self.folder / "log.jsonl")
        if config.resume:
            self.keeper.fetch()
        known = self._known() if config.resume else {}
        torch.manual_seed(config.seed)
        narrower = config.narrower or (1 if device.startswith("cuda") else 4)
        discriminators = Discriminators(known.get("narrower", narrower))
        self.begun_with = known["begun_with"] if known else self._start()
        generator = build_trainable(known.get("generator", self.begun_with), config.start or "the generator")
        self.tuner = Tuner(generator, discriminators, config, clips=len(clips), device=device)
        self.first_step, self.seconds_before = 0, 0.0
        if known:
            self.tuner.load_state(known)
            # Where the voice has changed, what is known is kept and the budget begins anew.
            same = known["data"] == lesson.data
            self.first_step = known["first_step"] if same else self.tuner.step
            self.seconds_before = known["seconds"] if same else 0.0
        self.log.cut(self.tuner.step)
        self.began = time.monotonic()

    def _known(self) -> dict[str, Any]:
        """What an earlier session has learned from the same start; empty if there was none."""
        newest = self.checkpoints.newest() or self._worked_out()
        return newest if newest.get("begins") == self.lesson.begins else {}

    def _worked_out(self) -> dict[str, Any]:
        """What a zip, which has no checkpoint, tells of it; its discriminators are lost.

        What speaks has gone a share of the way from the start to what was learned: the whole way leads there.
        """
        own = self.folder / GENERATOR
        known = tuning_of(own)
        if not own.is_file() or known.get("begins") != self.lesson.begins:
            return {}
        begun_with, speaks = self._start(), read_generator(own)
        spent = known["spent"]
        return {"step": spent["steps"]} | known | {
            "generator": _lerp(begun_with, speaks, 1 / known["config"]["share"]),
            "begun_with": begun_with,
            "first_step": known.get("step", spent["steps"]) - spent["steps"],
            "seconds": spent["seconds"],
        }

    def _start(self) -> Weights:
        """The generator to begin with."""
        generator = build_trainable(read_generator(_here(self.config.start)), self.config.start or "the generator")
        return authors_weights(generator)

    @property
    def seconds(self) -> float:
        """Of fine-tuning, over all sessions."""
        return self.seconds_before + time.monotonic() - self.began

    def steps(self) -> Iterator[TuneStep]:
        tuner, config, lengths = self.tuner, self.config, [clip.mel.shape[1] for clip in self.clips]
        saved, saved_at, spent = tuner.step, self.seconds, self._spent()
        hop = AudioConfig().hop_length
        try:
            if spent >= 1:  # all that is asked for is another share of what was learned
                self._save()
            while spent < 1:
                places = choose_pieces(lengths, config.piece, tuner.batch_size, seed=config.seed, step=tuner.step)
                pieces = cut(self.clips, places, config.piece, hop_length=hop, frame_delay=hop // 2)
                rate, learned = tuner.rate, tuner.learn(*pieces)
                before, spent, path = spent, self._spent(), None
                tuner.school(spent - before)
                if spent >= 1 or self.seconds - saved_at >= 60 * config.save_minutes:
                    path, saved, saved_at = self._save(), tuner.step, self.seconds
                name = path.name if path else None
                step = TuneStep(tuner.step, tuner.epoch, learned, rate, self.seconds, name)
                self.log.append(step.as_dict())
                for note in self.keeper.notes():
                    warnings.warn(note, stacklevel=2)
                yield step
        except TrainingError:  # nobody shall go on from what has diverged
            saved = tuner.step
            raise
        finally:
            self._end(saved)

    def _end(self, saved: int) -> None:
        try:
            if self.tuner.step > saved:  # stopped between two checkpoints: nothing of it is lost
                self._save()
        finally:
            self.keeper.keep(self.log.path)  # it may have grown since the checkpoint
            self.keeper.close()

    def _spent(self) -> float:
        return self.config.budget.spent(self.tuner.step - self.first_step, self.seconds)

    def _save(self) -> Path:
        """Write the generator, all that is needed to go on, and what was spent."""
        tuner, seconds, lesson = self.tuner, self.seconds, asdict(self.lesson)
        state = tuner.state() | lesson | {"begun_with": self.begun_with}
        path = self.checkpoints.save(tuner.step, state | {"first_step": self.first_step, "seconds": seconds})
        speaks = _lerp(self.begun_with, state["generator"], self.config.share)
        write_weights(self.folder / GENERATOR, {"generator": speaks})
        spent = {"steps": tuner.step - self.first_step, "seconds": seconds}
        content = lesson | {"clips": len(self.clips), "step": tuner.step, "pieces": tuner.pieces, "spent": spent}
        content["config"] = asdict(self.config)
        with atomic_write(self.folder / "config.json", "w") as file:
            json.dump(content, file, indent=1)
        self.keeper.keep(self.folder / GENERATOR, self.log.path, self.folder / "config.json")
        return path


def _lerp(start: Weights, end: Weights, share: float) -> Weights:
    """Weights so far on the way from some to others; a share above 1 leads beyond them."""
    return {name: torch.lerp(start[name], weight, share) for name, weight in end.items()}
