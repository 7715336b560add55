"""Training WaveGlow on one voice (Prenger et al. 2019): on its own natural clips, by their likelihood.

`tune_waveglow` yields a `WaveGlowStep` for every optimiser step and keeps everything in ``runs/<run>/waveglow/``:
``waveglow.pt``, which `load_vocoder` takes as ``waveglow:<file>`` and whose weights NVIDIA's network loads, checkpoints
from which it goes on after any interruption, a log and the configuration.

The loss on clips that nothing is learned from tells whether it gets better: what is best by it speaks. It is measured
before the first step, too, so what begins with NVIDIA's universal weights never gets worse than they are.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..audio import AudioConfig, load, log_mel
from ..device import choose_device, seeded, without_denormals
from ..drive import WAVEGLOW, Keeper
from ..errors import CheckpointError, TrainingError, VoiceCloneError
from ..files import atomic_write, file_hash, text_hash
from ..log import Log
from ..weights import write_weights
from .fitting import Budget, Checkpoints, check_finite, choose_pieces
from .tuned import WEIGHTS
from .waveglow import load_waveglow
from .waveglow_network import Encoded, WaveGlowNetwork, WaveGlowSizes

if TYPE_CHECKING:
    from ..voice import Voice

DEFAULT_MINUTES = 30.0
SCRATCH = "scratch"  # what random weights to start with are called
NORMED = re.compile(r"WN\.\d+\.(start|cond_layer|in_layers\.\d+|res_skip_layers\.\d+)\.weight")  # in NVIDIA's network


@dataclass(frozen=True)
class WaveGlowConfig:
    """How a WaveGlow is trained. The budget is in minutes or in steps, whichever is spent first."""

    minutes: float | None = None  # over all sessions; None = 30, unless steps are given
    steps: int | None = None  # optimiser steps, over all sessions
    run: str | None = None  # whose held-out clips are held out here; None = the one that was worked on last
    start: str = "waveglow"  # a checkpoint's file, or what `fetch` takes, as NVIDIA's universal one; or "scratch"
    sizes: WaveGlowSizes | None = None  # of random weights; None = NVIDIA's
    resume: bool = True  # go on from the newest whole checkpoint; False begins anew
    batch_size: int | None = None  # segments a step; None = 12 on a GPU, 1 without
    segment: int = 16000  # samples; this, the rate and sigma are NVIDIA's
    learning_rate: float = 1e-4  # of Adam
    sigma: float = 1.0  # deviation that the noise shall have
    validate_every: int = 100  # steps between two measures of the held-out clips; each checkpoint takes one, too
    save_minutes: float = 10.0  # between checkpoints
    seed: int = 1234
    device: str | None = None  # None chooses

    def __post_init__(self) -> None:
        positive = ("batch_size", "segment", "learning_rate", "sigma", "validate_every")
        wrong = {name: value for name in positive if (value := getattr(self, name)) is not None and value <= 0}
        if wrong:
            raise VoiceCloneError(f"{', '.join(f'{k}={v}' for k, v in wrong.items())} must be above zero.")
        if self.segment <= AudioConfig().n_fft // 2:
            raise VoiceCloneError(f"segment={self.segment} samples hold no spectrogram; NVIDIA's is 16000.")
        if self.sizes and self.start != SCRATCH:
            raise VoiceCloneError(
                f"sizes were given, but {self.start} has its own. Leave them out, or begin with random weights: "
                f"start={SCRATCH!r}."
            )

    @property
    def budget(self) -> Budget:
        """How long to train."""
        return Budget(DEFAULT_MINUTES if self.minutes is None and self.steps is None else self.minutes, self.steps)


@dataclass(frozen=True)
class WaveGlowStep:
    """One optimiser step; losses in nats a sample, but for a constant."""

    step: int  # 0 is said once before the first
    loss: float | None  # of what was learned from; None at step 0
    validation_loss: float | None  # of the held-out clips; None where it was not measured
    best: float | None  # the lowest of these so far, at which the weights are kept; None where no clip is held out
    seconds: float  # of training, over all sessions
    checkpoint: str | None = None  # name of the file that was written


def waveglow_loss(encoded: Encoded, sigma: float = 1.0) -> torch.Tensor:
    """Return the negative log-likelihood a sample, but for a constant: what the paper trains for.

    Parameters
    ----------
    encoded : Encoded
        From `WaveGlowNetwork.encode`.
    sigma : float
        Deviation that the noise shall have.
    """
    squares = encoded.z.square().sum() / (2 * sigma**2)
    return (squares - encoded.log_scale - encoded.log_determinant) / encoded.z.numel()


def nvidias_weights(network: WaveGlowNetwork) -> dict[str, torch.Tensor]:
    """Weights as NVIDIA's network has them while it learns: those with weight norm as lengths and directions."""
    weights = {}
    for name, value in network.state_dict().items():
        if NORMED.fullmatch(name):
            weights[f"{name}_g"] = value.flatten(1).norm(dim=1).view(-1, 1, 1)
            weights[f"{name}_v"] = value
        else:
            weights[name] = value
    return weights


class Learner:
    """A network and its optimiser.

    Parameters
    ----------
    network : WaveGlowNetwork
        Changed in place.
    config : WaveGlowConfig
    waves : sequence of np.ndarray, shape (samples,)
        What to learn from, at 22,050 Hz, of any length.
    device : str
        Where to compute.
    """

    def __init__(
        self, network: WaveGlowNetwork, config: WaveGlowConfig, waves: Sequence[np.ndarray], *, device: str = "cpu"
    ) -> None:
        if not waves:
            raise TrainingError("There is no sound to learn from: accept and clean some clips first (notebooks 01-03).")
        self.config, self.waves, self.device = config, [_long_enough(wave) for wave in waves], device
        self.batch_size = config.batch_size or (12 if device.startswith("cuda") else 1)
        self.network = network.to(device).train()
        self.optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
        self.step = 0

    @without_denormals()  # gradients through closed gates: a step of a trained network would take 8 times as long
    def learn(self) -> float:
        """Take one step, and give its loss.

        Raises
        ------
        TrainingError
            If the loss or its gradient is no longer a finite number, or a single segment is too much for the memory.

        Warns
        -----
        UserWarning
            If the memory did not suffice, and a step takes fewer segments from now on.
        """
        loss = None
        while loss is None:  # out of memory: fewer segments
            self.optimiser.zero_grad()
            loss = self._gradient()
        check_finite(loss, self.step)
        check_finite(float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), torch.inf)), self.step)
        self.optimiser.step()
        self.step += 1
        return loss

    def _gradient(self) -> float | None:
        """Loss of segments that are cut out at random; None if the memory did not suffice."""
        lengths = [len(wave) for wave in self.waves]
        places = choose_pieces(lengths, self.config.segment, self.batch_size, seed=self.config.seed, step=self.step)
        # As long as the shortest clip among them: silence that no recording has would be learned as the likeliest.
        length = min(self.config.segment, *(lengths[index] for index, _ in places))
        try:
            loss = self._loss(np.stack([self.waves[index][start : start + length] for index, start in places]))
            loss.backward()
            return loss.item()
        except torch.OutOfMemoryError as error:
            if self.batch_size == 1:
                raise TrainingError(
                    f"The memory of {self.device} does not suffice for one segment of {length} samples. Give a shorter "
                    "segment, or start from smaller sizes."
                ) from error
        self.batch_size //= 2
        warnings.warn(
            f"The memory of {self.device} does not suffice: from now on a step learns from {self.batch_size} segments.",
            stacklevel=2,
        )
        return None

    @torch.no_grad()
    def loss_of(self, waves: Sequence[np.ndarray]) -> float:
        """Loss a sample of waves (samples,), each cut into segments from its beginning; a short one is taken whole."""
        segment = self.config.segment
        pieces = [
            wave[start : start + segment]
            for wave in map(_long_enough, waves)
            for start in range(0, max(1, len(wave) - segment + 1), segment)
        ]
        total = sum(float(self._loss(piece[None])) * len(piece) for piece in pieces)
        return total / sum(len(piece) for piece in pieces)

    def _loss(self, waves: np.ndarray) -> torch.Tensor:
        """(batch, samples) -> scalar."""
        mel = log_mel(waves, self.network.sizes.audio).to(self.device)
        return waveglow_loss(self.network.encode(mel, torch.from_numpy(waves).to(self.device)), self.config.sigma)

    def state(self) -> dict[str, Any]:
        """Everything that is needed to go on; ``load_waveglow`` reads it, too."""
        return {"state_dict": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["state_dict"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.optimiser.param_groups[0]["lr"] = self.config.learning_rate
        self.step = state["step"]


def _long_enough(wave: np.ndarray) -> np.ndarray:
    """A wave that has a spectrogram, and so nearly always the wave itself."""
    return np.pad(wave, (0, max(0, AudioConfig().n_fft - len(wave))))


# A voice ----------------------------------------------------------------------------------------------------------


def tune_waveglow(voice: Voice, config: WaveGlowConfig = WaveGlowConfig()) -> Iterator[WaveGlowStep]:
    """Train WaveGlow on a trained voice's clips; stop at any moment, call again to go on.

    Parameters
    ----------
    voice : Voice
        With recorded consent, and trained.
    config : WaveGlowConfig

    Yields
    ------
    WaveGlowStep
        One a step, and before the first what the held-out clips' loss is; nothing when the budget was spent.

    Raises
    ------
    TrainingError
        If nobody consented, there is no clip, another start was learned from before, or the loss is no number.
    CheckpointError
        If the voice has not been trained, or what to start from is no WaveGlow for the spectrograms of Tacotron 2.
    VoiceCloneError
        If what was learned before lies on a drive and cannot be read: to begin anew would lose it.

    Warns
    -----
    UserWarning
        If the memory takes fewer segments, or the drive on which the voice lies cannot be written.
    """
    from ..dataset import split_clips
    from ..synthesize import find_checkpoint

    if not voice.consent.who:
        raise TrainingError(f"{voice.name} has no recorded consent; without it no voice is trained (notebook 00).")
    run = find_checkpoint(voice, config.run).parent.parent
    clips = [clip.id for clip in voice.usable()]
    if not clips:
        raise TrainingError(f"{voice.name} has no clip to learn from: none is accepted and cleaned (notebooks 01-03).")
    network, begins = _begin(config)
    split = split_clips(clips, run / "split.json")
    training, held_out = (
        [load(voice.clip_path(name), sample_rate=AudioConfig().sample_rate)[0] for name in names]
        for names in (split.training or clips, split.validation if split.training else ())
    )
    data = text_hash(voice.content_hash(), *split.validation, config.segment, config.sigma)
    learner = Learner(network, config, training, device=choose_device(config.device))
    yield from _Session(run / WAVEGLOW, learner, held_out, data=data, begins=begins).steps()


def _begin(config: WaveGlowConfig) -> tuple[WaveGlowNetwork, str]:
    """The network to start with, and a hash by which it is known again, whatever its file is called."""
    from ..download import fetch, is_elsewhere

    if config.start == SCRATCH:
        sizes = config.sizes or WaveGlowSizes()
        with seeded(config.seed, "cpu"):
            network, begins = WaveGlowNetwork(sizes), text_hash(SCRATCH, *astuple(sizes))
    else:
        path = fetch(config.start).path if is_elsewhere(config.start) else Path(config.start)
        network, begins = load_waveglow(path).network, file_hash(path)
    found, expected = network.sizes.audio, AudioConfig()
    if found != expected:
        raise CheckpointError(
            f"{config.start} is a WaveGlow for {found.n_mels} bands and frames of {found.hop_length} samples, expected "
            f"{expected.n_mels} and {expected.hop_length}, as Tacotron 2 draws them. Choose another one."
        )
    return network, begins


class _Session:
    """One session: what is prepared once, and what changes from step to step."""

    def __init__(
        self, folder: Path, learner: Learner, held_out: Sequence[np.ndarray], *, data: str, begins: str
    ) -> None:
        self.learner, self.held_out, self.data, self.begins = learner, held_out, data, begins
        self.config = learner.config
        self.keeper = Keeper(folder)
        self.folder = self.keeper.work
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.keeper)
        self.log = Log(self.folder / "log.jsonl")
        if self.config.resume:
            self.keeper.fetch()
        known = self.checkpoints.newest() if self.config.resume else None
        self.fresh = known is None  # of the weights, or of what they are measured with
        self.first_step, self.seconds_before, self.best = 0, 0.0, None
        if known:
            self._take_over(known)
        self.log.cut(-1 if known is None else learner.step)
        self.began = time.monotonic()

    def _take_over(self, known: dict[str, Any]) -> None:
        if known["begins"] != self.begins:
            raise TrainingError(
                f"{self.folder} holds what was learned from {known['start']} as it was then ({known['sizes']}), not "
                f"from {self.config.start} as it is now ({self.learner.network.sizes}). Give that start to go on, or "
                "begin anew (--no-resume; resume=False), which drops it."
            )
        self.learner.load_state(known)
        self.fresh = known["data"] != self.data  # the voice has changed: what is known is kept, the budget begins anew
        self.first_step = self.learner.step if self.fresh else known["first_step"]
        self.seconds_before = 0.0 if self.fresh else known["seconds"]
        self.best = None if self.fresh else known["best"]

    @property
    def seconds(self) -> float:
        """Of training, over all sessions."""
        return self.seconds_before + time.monotonic() - self.began

    def _spent(self) -> float:
        return self.config.budget.spent(self.learner.step - self.first_step, self.seconds)

    def steps(self) -> Iterator[WaveGlowStep]:
        learner, config = self.learner, self.config
        saved, saved_at, spent = learner.step, self.seconds, self._spent()
        try:
            if self.fresh:
                yield self._said(None, self._validated(), self._save())
            while spent < 1:
                loss = learner.learn()
                spent, validation, path = self._spent(), None, None
                due = spent >= 1 or self.seconds - saved_at >= 60 * config.save_minutes
                if due or learner.step % config.validate_every == 0:
                    validation = self._validated()
                if due:
                    path, saved, saved_at = self._save(), learner.step, self.seconds
                yield self._said(loss, validation, path)
        except TrainingError:  # nobody shall go on from what has diverged
            saved = learner.step
            raise
        finally:
            self._end(saved)

    def _said(self, loss: float | None, validation: float | None, path: Path | None) -> WaveGlowStep:
        """What a step did, in the log too."""
        step = WaveGlowStep(self.learner.step, loss, validation, self.best, self.seconds, path and path.name)
        self.log.append(asdict(step))
        for note in self.keeper.notes():
            warnings.warn(note, stacklevel=3)
        return step

    def _validated(self) -> float | None:
        """Loss of the held-out clips; the weights are kept if it is the best. Without such clips the last are."""
        loss = self.learner.loss_of(self.held_out) if self.held_out else None
        if loss is not None:
            check_finite(loss, self.learner.step)
        if loss is None or self.best is None or loss < self.best:
            self.best = loss
            path = write_weights(self.folder / WEIGHTS, {"state_dict": nvidias_weights(self.learner.network)})
            self.keeper.keep(path)
        return loss

    def _end(self, saved: int) -> None:
        try:
            if self.learner.step > saved:  # stopped between two checkpoints: nothing of it is lost
                self._save()
        finally:
            self.keeper.keep(self.log.path)  # it may have grown since the checkpoint
            self.keeper.close()

    def _save(self) -> Path:
        """Write all that is needed to go on, and what was spent."""
        about = {"data": self.data, "begins": self.begins, "start": self.config.start, "best": self.best}
        about["sizes"] = str(self.learner.network.sizes)
        spent = {"first_step": self.first_step, "seconds": self.seconds}
        path = self.checkpoints.save(self.learner.step, self.learner.state() | about | spent)
        content = about | {"spent": {"steps": self.learner.step - self.first_step, "seconds": self.seconds}}
        content["config"] = asdict(self.config)
        with atomic_write(self.folder / "config.json", "w") as file:
            json.dump(content, file, indent=1)
        self.keeper.keep(self.log.path, self.folder / "config.json")
        return path
