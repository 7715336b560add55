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
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from ..audio import AudioConfig, log_mel
from ..device import choose_device
from ..drive import Keeper
from ..errors import CheckpointError, TrainingError, VoiceCloneError
from ..files import atomic_write, file_hash, text_hash
from ..log import Log
from ..weights import write_weights
from .aligned import AlignedClip, aligned_clips, cut, whole_range
from .fitting import Budget, Checkpoints, check_finite, choose_pieces
from .hifigan import Generator, authors_weights, build_generator, build_trainable, laid_out, read_generator
from .hifigan_discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_loss
from .tuned import FOLDER, GENERATOR, generator_of

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

    def voice_of_judges(self, step: int, spent: float) -> float:
        """Weight of what the discriminators say, 0 to 1, at a step when so much of the budget is spent."""
        learned = max(step / self.alone_steps, spent / self.alone_share)
        return min(max(learned - 1.0, 0.0), 1.0)


@dataclass(frozen=True)
class Tuned:
    """What one step did; losses without their weights."""

    mel_loss: float  # L1 of log-mels, nepers
    adversarial_loss: float  # 0 while the discriminators learn alone
    feature_loss: float
    discriminator_loss: float  # 2 for each discriminator that finds nothing is 0.5 and 0.5
    judges: float  # weight of what they say


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


class Tuner:
    """A generator, its discriminators and their optimisers.

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
        self.batch_size = config.batch_size or (16 if device.startswith("cuda") else 2)
        self.generator, self.discriminators = laid_out(generator, device), discriminators.to(device)
        fused = device.startswith("cuda") or None  # one kernel for all weights; None is torch's own choice
        self.of_generator = torch.optim.AdamW(generator.parameters(), config.learning_rate, config.betas, fused=fused)
        self.of_judges = torch.optim.AdamW(
            discriminators.parameters(), config.discriminator_rate, config.betas, fused=fused
        )
        self.audio = whole_range(AudioConfig(n_mels=generator.conv_pre.in_channels))
        self.step = 0

    @property
    def epoch(self) -> float:
        """Passes over the clips."""
        return self.step * self.batch_size / self.clips

    @property
    def rate(self) -> float:
        """Learning rate of the generator."""
        return self.config.learning_rate * self.config.rate_decay ** int(self.epoch)

    def learn(self, mels: torch.Tensor, waves: torch.Tensor, spent: float) -> Tuned:
        """Take one step.

        Parameters
        ----------
        mels : torch.Tensor, shape (batch, n_mels, frames)
        waves : torch.Tensor, shape (batch, frames * hop_length)
            What shall be made of them.
        spent : float
            Share of the budget.

        Raises
        ------
        TrainingError
            If a loss is no longer a finite number.
        """
        mels, natural = mels.to(self.device), waves.to(self.device)
        self.of_generator.param_groups[0]["lr"] = self.rate
        self.of_judges.param_groups[0]["lr"] = self.rate * self.config.discriminator_rate / self.config.learning_rate
        made = self.generator(mels)
        judged = discriminator_loss(*self.discriminators.compare(natural, made.detach()))
        (judged_loss,) = _descend(self.of_judges, self.step, judged)
        judges = self.config.voice_of_judges(self.step, spent)
        mel = F.l1_loss(log_mel(made, self.audio), log_mel(natural, self.audio))
        adversarial, feature = self._heard(natural, made) if judges else (mel.new_zeros(()), mel.new_zeros(()))
        total = self.config.mel_weight * mel + judges * (adversarial + self.config.feature_weight * feature)
        _, *losses = _descend(self.of_generator, self.step, total, mel, adversarial, feature)
        self.step += 1
        return Tuned(*losses, judged_loss, judges)

    def _heard(self, natural: torch.Tensor, made: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the discriminators, as they now are, say to the generator."""
        self.discriminators.requires_grad_(False)
        real, fake = self.discriminators.compare(natural, made)
        self.discriminators.requires_grad_(True)
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
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; the generator is the one that was built of its weights."""
        self.discriminators.load_state_dict(state["discriminators"])
        for optimiser, known in (self.of_generator, state["of_generator"]), (self.of_judges, state["of_judges"]):
            for group, own in zip(known["param_groups"], optimiser.param_groups, strict=True):
                group["fused"] = own["fused"]  # is this device's, whatever the last session had
            optimiser.load_state_dict(known)
        self.step = state["step"]


def _descend(optimiser: torch.optim.Optimizer, step: int, loss: torch.Tensor, *parts: torch.Tensor) -> list[float]:
    """Lower a loss if it is finite; gives it and its parts as numbers, all at once: a GPU is waited for each time."""
    numbers = torch.stack((loss, *parts)).tolist()
    check_finite(numbers[0], step)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return numbers


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
    begins = _named(config.start)
    data = text_hash(voice.content_hash(), file_hash(acoustic), begins)
    run = acoustic.parent.parent
    if config.resume and _finished(generator_of(run).parent, data, config):
        keeper = Keeper(run / FOLDER)
        if keeper.work.is_dir():  # what the last session on this machine could not bring there
            keeper.fetch()
            keeper.close()
        return
    device = choose_device(config.device)
    clips = aligned_clips(voice, acoustic, device=device, seed=config.seed, progress=progress)
    training, _ = divide(clips, run)
    yield from _Tuning(run / FOLDER, data, begins, training or clips, config, device).steps()


def divide(clips: Sequence[AlignedClip], run: Path) -> tuple[list[AlignedClip], list[AlignedClip]]:
    """Clips to learn from, and those that the run held out: neither Tacotron 2 nor the vocoder has learned them."""
    from ..dataset import split_clips

    split = split_clips([clip.id for clip in clips], run / "split.json")
    return [c for c in clips if c.id in split.training], [c for c in clips if c.id in split.validation]


def _finished(folder: Path, data: str, config: TuneConfig) -> bool:
    """Whether the budget was spent on this data, for this share of it; asks no model to be loaded."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        same = (content["data"], content["config"]["share"]) == (data, config.share) and (folder / GENERATOR).is_file()
        return same and config.budget.spent(content["spent"]["steps"], content["spent"]["seconds"]) >= 1
    except (OSError, ValueError, KeyError):
        return False


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
        self, folder: Path, data: str, begins: str, clips: Sequence[AlignedClip], config: TuneConfig, device: str
    ) -> None:
        self.data, self.begins, self.clips, self.config = data, begins, clips, config
        self.keeper = Keeper(folder)
        self.folder = self.keeper.work
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.keeper)
        self.log = Log(self.folder / "log.jsonl")
        if config.resume:
            self.keeper.fetch()
        known = self.checkpoints.newest() if config.resume else None
        if known and known.get("begins") != begins:  # what was learned belongs to another generator
            known = None
        torch.manual_seed(config.seed)
        narrower = config.narrower or (1 if device.startswith("cuda") else 4)
        discriminators = Discriminators(known["narrower"] if known else narrower)
        weights = known["generator"] if known else read_generator(self._start())
        generator = build_trainable(weights, config.start or "the generator")
        self.begun_with = known["begun_with"] if known else deepcopy(authors_weights(generator))
        self.tuner = Tuner(generator, discriminators, config, clips=len(clips), device=device)
        self.first_step, self.seconds_before = 0, 0.0
        if known:
            self.tuner.load_state(known)
            same = known["data"] == data  # else the voice has changed: what is known is kept, the budget begins anew
            self.first_step = known["first_step"] if same else self.tuner.step
            self.seconds_before = known["seconds"] if same else 0.0
        self.log.cut(self.tuner.step)
        self.began = time.monotonic()

    def _start(self) -> str | Path | None:
        """The generator's file to begin with: its own where the checkpoints were lost, as they are in a zip."""
        own, begun = self.folder / GENERATOR, None
        with suppress(OSError, ValueError, KeyError):
            begun = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))["begins"]
        return own if self.config.resume and own.is_file() and begun == self.begins else _here(self.config.start)

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
                rate, learned = tuner.rate, tuner.learn(*pieces, spent)
                spent, path = self._spent(), None
                if spent >= 1 or self.seconds - saved_at >= 60 * config.save_minutes:
                    path, saved, saved_at = self._save(), tuner.step, self.seconds
                name = path.name if path else None
                step = TuneStep(tuner.step, tuner.epoch, learned, rate, self.seconds, name)
                self.log.append(step.as_dict())
                for note in self.keeper.notes():
                    warnings.warn(note, stacklevel=2)
                yield step
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
        state = self.tuner.state() | {"data": self.data, "first_step": self.first_step, "seconds": self.seconds}
        path = self.checkpoints.save(self.tuner.step, state | {"begins": self.begins, "begun_with": self.begun_with})
        speaks = {
            name: torch.lerp(self.begun_with[name], learned, self.config.share)
            for name, learned in state["generator"].items()
        }
        write_weights(self.folder / GENERATOR, {"generator": speaks})
        spent = {"steps": self.tuner.step - self.first_step, "seconds": self.seconds}
        content = {"data": self.data, "begins": self.begins, "clips": len(self.clips), "spent": spent}
        content["config"] = asdict(self.config)
        with atomic_write(self.folder / "config.json", "w") as file:
            json.dump(content, file, indent=1)
        self.keeper.keep(self.folder / GENERATOR, self.log.path, self.folder / "config.json")
        return path
