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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..audio import AudioConfig
from ..device import choose_device
from ..drive import Keeper
from ..errors import CheckpointError
from ..files import alone, file_hash, text_hash
from ..weights import write_weights
from .aligned import AlignedClip, aligned_clips, cut
from .fitting import Session, checkpoint_to_fit, choose_pieces
from .hifigan import Weights, authors_weights, build_generator, build_trainable, read_generator
from .hifigan_discriminators import Discriminators
from .hifigan_tuner import TuneConfig, Tuned, Tuner
from .tuned import FOLDER, GENERATOR, generator_of, tuning_of

if TYPE_CHECKING:
    from ..voice import Clip, Voice


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
        If nobody consented, another start was learned from before, another session is at work, or the loss is no
        longer a number.
    CheckpointError
        If the voice has not been trained, or the generator to start from cannot be read.
    VoiceCloneError
        If what was tuned before lies on a drive and cannot be read: to begin anew would lose it.

    Warns
    -----
    UserWarning
        If the drive on which the voice lies cannot be written: tuning goes on, on this machine.
    """
    acoustic = checkpoint_to_fit(voice, config.run, config.checkpoint)
    run = acoustic.parent.parent
    if config.resume and config.start is None:  # go on with what was begun with
        config = replace(config, start=tuning_of(generator_of(run)).get("config", {}).get("start"))
    begins, drawn_by = _named(config.start), file_hash(acoustic)
    data, start = text_hash(voice.content_hash(), drawn_by, begins), config.start or "the universal generator"
    lesson = _Lesson(data, begins, start, acoustic.name, drawn_by)
    with alone(run / FOLDER):
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
    start: str  # what that one is called
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


class _Tuning(Session):
    """One session: what is prepared once, and what changes from step to step."""

    def __init__(
        self, folder: Path, lesson: _Lesson, clips: Sequence[AlignedClip], config: TuneConfig, device: str
    ) -> None:
        super().__init__(folder, config, lesson.data)
        self.lesson, self.clips = lesson, clips
        known = self._known() if config.resume else {}
        torch.manual_seed(config.seed)
        narrower = config.narrower or (1 if device.startswith("cuda") else 4)
        discriminators = Discriminators(known.get("narrower", narrower))
        self.begun_with = known["begun_with"] if known else self._start()
        generator = build_trainable(known.get("generator", self.begun_with), config.start or "the generator")
        self.tuner = Tuner(generator, discriminators, config, clips=len(clips), device=device)
        if known:
            self.tuner.load_state(known)
        self._begin(known or None)

    @property
    def step(self) -> int:
        """Optimiser steps that were taken, over all sessions."""
        return self.tuner.step

    def _known(self) -> dict[str, Any]:
        """What an earlier session has learned; empty if there was none."""
        newest, own = self.checkpoints.newest(), self.folder / GENERATOR
        known = newest or (tuning_of(own) if own.is_file() else {})
        if known:
            then = known.get("start", "a generator")  # whose name older files lack
            self._check_same_start(known, self.lesson.begins, then, self.lesson.start)
        return known if newest or not known else self._worked_out(known, read_generator(own))

    def _worked_out(self, known: dict[str, Any], speaks: Weights) -> dict[str, Any]:
        """What a zip, which has no checkpoint, tells of it; its discriminators are lost.

        What speaks has gone a share of the way from the start to what was learned: the whole way leads there.
        """
        begun_with = self._start()
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

    def steps(self) -> Iterator[TuneStep]:
        """Take the steps that are left."""
        tuner, config, lengths = self.tuner, self.config, [clip.mel.shape[1] for clip in self.clips]
        hop = AudioConfig().hop_length
        with self._kept():
            spent = self._spent()
            if spent >= 1:  # all that is asked for is another share of what was learned
                self._save()
            while spent < 1:
                places = choose_pieces(lengths, config.piece, tuner.batch_size, seed=config.seed, step=tuner.step)
                pieces = cut(self.clips, places, config.piece, hop_length=hop, frame_delay=hop // 2)
                rate, learned = tuner.rate, tuner.learn(*pieces)
                before, spent = spent, self._spent()
                tuner.school(spent - before)
                checkpoint = self._save() if self._due(spent) else None
                step = TuneStep(tuner.step, tuner.epoch, learned, rate, self.seconds, checkpoint)
                self._record(step.as_dict())
                yield step

    def _save(self) -> str:
        """Write the generator that speaks, and all that is needed to go on."""
        tuner, state = self.tuner, self.tuner.state()
        speaks = _lerp(self.begun_with, state["generator"], self.config.share)
        self.keeper.keep(write_weights(self.folder / GENERATOR, {"generator": speaks}))
        about = asdict(self.lesson) | {"clips": len(self.clips), "step": tuner.step, "pieces": tuner.pieces}
        return self._write(state | {"begun_with": self.begun_with}, about)


def _lerp(start: Weights, end: Weights, share: float) -> Weights:
    """Weights so far on the way from some to others; a share above 1 leads beyond them."""
    return {name: torch.lerp(start[name], weight, share) for name, weight in end.items()}
