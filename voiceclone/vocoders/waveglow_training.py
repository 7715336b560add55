"""Training WaveGlow on one voice (Prenger et al. 2019): on its own natural clips, by their likelihood.

`tune_waveglow` yields a `WaveGlowStep` for every optimiser step and keeps everything in ``runs/<run>/waveglow/``:
``waveglow.pt``, which `load_vocoder` takes as ``waveglow:<file>`` and whose weights NVIDIA's network loads, checkpoints
from which it goes on after any interruption, a log and the configuration.

The loss on clips that nothing is learned from tells whether it gets better: what is best by it speaks. It is measured
before the first step, too, so what begins with NVIDIA's universal weights never gets worse than they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..audio import AudioConfig, load, log_mel
from ..device import choose_device, seeded, without_denormals
from ..drive import WAVEGLOW
from ..errors import CheckpointError, TrainingError, VoiceCloneError
from ..files import alone, file_hash, text_hash
from ..weights import write_weights
from .fitting import FitConfig, Session, check_finite, checkpoint_to_fit, choose_pieces, halve
from .tuned import WEIGHTS, tuning_of, waveglow_of
from .waveglow import load_waveglow
from .waveglow_network import Encoded, WaveGlowNetwork, WaveGlowSizes

if TYPE_CHECKING:
    from ..voice import Voice

UNIVERSAL = "waveglow"  # what `fetch` calls NVIDIA's
SCRATCH = "scratch"  # what random weights to start with are called
NORMED = re.compile(r"WN\.\d+\.(start|cond_layer|in_layers\.\d+|res_skip_layers\.\d+)\.weight")  # in NVIDIA's network


@dataclass(frozen=True)
class WaveGlowConfig(FitConfig):
    """How a WaveGlow is trained; what the run held out is held out here, too."""

    # A checkpoint's file, or what `fetch` takes, or "scratch"; None = as before, and at first NVIDIA's universal one.
    start: str | None = None
    sizes: WaveGlowSizes | None = None  # of random weights; None = as before, and at first NVIDIA's
    segment: int = 16000  # samples; this, the rate and sigma are NVIDIA's
    learning_rate: float = 1e-4  # of Adam
    sigma: float = 1.0  # deviation that the noise shall have
    validate_every: int = 100  # steps between two measures of the held-out clips; each checkpoint takes one, too

    def __post_init__(self) -> None:
        self.check_positive("batch_size", "segment", "learning_rate", "sigma", "validate_every")
        if self.sizes and self.sizes.n_channels <= 0:
            raise VoiceCloneError(f"A WaveGlow of {self.sizes.n_channels} channels cannot be; NVIDIA's has 256.")
        if self.segment <= AudioConfig().n_fft // 2:
            raise VoiceCloneError(f"segment={self.segment} samples hold no spectrogram; NVIDIA's is 16000.")
        if self.sizes and self.start not in (SCRATCH, None):
            raise VoiceCloneError(
                f"Sizes (--channels) were given, but {self.start} has its own. Leave them out, or begin with random "
                f"weights: start={SCRATCH!r}."
            )


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
        self.batch_size = config.batch_size or (12 if device.startswith("cuda") else 1)  # NVIDIA's 12
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
        while (loss := self._gradient()) is None:
            piece = f"segment of {self.config.segment} samples"
            self.batch_size = halve(self.batch_size, device=self.device, piece=piece)
        check_finite(loss, self.step)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), torch.inf)
        check_finite(float(norm), self.step, of="gradient")
        self.optimiser.step()
        self.step += 1
        return loss

    def _gradient(self) -> float | None:
        """Loss of segments that are cut out at random; None if the memory did not suffice."""
        lengths = [len(wave) for wave in self.waves]
        places = choose_pieces(lengths, self.config.segment, self.batch_size, seed=self.config.seed, step=self.step)
        # As long as the shortest clip among them: silence that no recording has would be learned as the likeliest.
        length = min(self.config.segment, *(lengths[index] for index, _ in places))
        self.optimiser.zero_grad()
        try:
            loss = self._loss(np.stack([self.waves[index][start : start + length] for index, start in places]))
            loss.backward()
            return loss.item()
        except torch.OutOfMemoryError:
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
        If nobody consented, there is no clip, another start was learned from before, another session is at work, or
        the loss is no number.
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

    run = checkpoint_to_fit(voice, config.run).parent.parent
    config = _as_before(config, run)
    network, begins = _start(config)
    clips = [clip.id for clip in voice.usable()]
    split = split_clips(clips, run / "split.json")
    training, held_out = (
        [load(voice.clip_path(name), sample_rate=AudioConfig().sample_rate)[0] for name in names]
        for names in (split.training or clips, split.validation if split.training else ())
    )
    data = text_hash(voice.content_hash(), *split.validation, config.segment, config.sigma)
    learner = Learner(network, config, training, device=choose_device(config.device))
    with alone(run / WAVEGLOW):
        yield from _Training(run / WAVEGLOW, learner, held_out, data=data, begins=begins).steps()


def _as_before(config: WaveGlowConfig, run: Path) -> WaveGlowConfig:
    """The same with what an earlier session began with, where nothing else is asked for."""
    if config.start:
        return config
    before = tuning_of(waveglow_of(run)).get("config", {}) if config.resume else {}
    sizes = config.sizes or (before.get("sizes") and WaveGlowSizes(**before["sizes"]))
    return replace(config, start=before.get("start", UNIVERSAL), sizes=sizes)


def _start(config: WaveGlowConfig) -> tuple[WaveGlowNetwork, str]:
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


class _Training(Session):
    """One session: what is prepared once, and what changes from step to step."""

    def __init__(
        self, folder: Path, learner: Learner, held_out: Sequence[np.ndarray], *, data: str, begins: str
    ) -> None:
        super().__init__(folder, learner.config, data)
        self.learner, self.held_out, self.begins = learner, held_out, begins
        known = self.checkpoints.newest() if self.config.resume else None
        if known:
            then, now = f"{known['start']} ({known['sizes']})", f"{self.config.start} ({learner.network.sizes})"
            self._check_same_start(known, begins, then, now)
            learner.load_state(known)
        self._begin(known)
        self.best = known["best"] if self.unchanged else None

    @property
    def step(self) -> int:
        """Optimiser steps that were taken, over all sessions."""
        return self.learner.step

    def steps(self) -> Iterator[WaveGlowStep]:
        """Take the steps that are left; what the held-out clips' loss is without them is said first."""
        learner, config = self.learner, self.config
        with self._kept():
            spent = self._spent()
            if not self.unchanged:  # the weights are new, or what they are measured with
                yield self._said(None, self._validated(), self._save())
            while spent < 1:
                loss = learner.learn()
                spent = self._spent()
                due = self._due(spent)
                validation = self._validated() if due or learner.step % config.validate_every == 0 else None
                yield self._said(loss, validation, self._save() if due else None)

    def _said(self, loss: float | None, validation: float | None, checkpoint: str | None) -> WaveGlowStep:
        """What a step did, in the log too."""
        step = WaveGlowStep(self.step, loss, validation, self.best, self.seconds, checkpoint)
        self._record(asdict(step))
        return step

    def _validated(self) -> float | None:
        """Loss of the held-out clips; the weights are kept if it is the best. Without such clips the last are."""
        loss = self.learner.loss_of(self.held_out) if self.held_out else None
        if loss is not None:
            check_finite(loss, self.step)
        if loss is None or self.best is None or loss < self.best:
            self.best = loss
            path = write_weights(self.folder / WEIGHTS, {"state_dict": nvidias_weights(self.learner.network)})
            self.keeper.keep(path)
        return loss

    def _save(self) -> str:
        """Write all that is needed to go on."""
        about = {"begins": self.begins, "start": self.config.start, "sizes": str(self.learner.network.sizes)}
        return self._write(self.learner.state(), about | {"best": self.best})
