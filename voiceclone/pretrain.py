"""Making a base: a model trained on a corpus of many speakers, from which a voice is adapted.

What is slow to find out of the corpus (which sound is when, the pitch, who speaks) is what `voiceclone.prepare` finds
and keeps, on this machine or, beforehand, on many; what is there already is not looked for again.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from .audio import AudioConfig, log_mel
from .dataset import Batch, Example, mel_statistics
from .device import choose_device
from .errors import TrainingError
from .files import atomic_write
from .learn import LearnConfig, Learned, Learner
from .log import Log
from .prepare import Features, Row, prepare, read_corpus
from .speaker import embed, mean_embedding
from .tacotron2 import PRESETS, LossConfig, Tacotron2, Tacotron2Config, warm_start
from .tacotron2.checkpoint import Checkpoint, adopt, newest_checkpoint, save_base, save_checkpoint
from .text import to_ids
from .train_config import SPEAKER_SIZE

SHORTEST, LONGEST = 0.7, 15.0  # s; outside, clips teach little and cost much
EMBEDDED = 20  # clips of a speaker that are enough to know it by
SPEAKER_NOISE = 0.01  # deviation of what is added to each value of an embedding, whose norm is 1


@dataclass(frozen=True)
class PretrainConfig:
    """How a base is trained. The budget is in minutes or in steps, whichever is spent first."""

    minutes: float = 150.0
    steps: int | None = None
    preset: str = "small"  # which has a speaker embedding, whatever the preset says
    start: str | None = None  # a base to go on from, or what else `warm_start` takes; None begins with random weights
    speeds: tuple[float, ...] = (0.87, 1.15)  # each clip is also learned at one of these, in turn: another speaker
    held_out: int = 40  # clips kept for validation
    validate_every: int = 200  # steps
    save_every: int = 200  # steps
    log_every: int = 50  # steps
    transcriber: str = ""  # engine that writes what clips without a text say; "" leaves them out
    workers: int | None = None  # clips prepared at once; None = one a core
    loaders: int | None = None  # processes that make batches beside this one; None = one with a GPU, else none
    seed: int = 1234
    device: str | None = None
    learn: LearnConfig = field(
        default_factory=lambda: LearnConfig(
            batch_size=16,
            learning_rate=1e-3,
            warmup_steps=200,
            average=0.998,
            frame_dropout=0.1,
            frame_noise=0.1,
            loss=LossConfig(absolute=1.0, contrast=1.0, attention=0.5, gate_positive=5.0),
        )
    )

    @property
    def sizes(self) -> Tacotron2Config:
        """Of the model that is trained."""
        return replace(PRESETS[self.preset], speaker_dim=SPEAKER_SIZE)


@dataclass(frozen=True)
class PretrainStep:
    """What is known after some steps of pretraining."""

    step: int
    seconds: float  # since pretraining began, over all its sessions
    learned: Learned
    validation: dict[str, float]  # teacher-forced losses on held-out clips; empty between validations

    def as_dict(self) -> dict[str, object]:
        """One line of ``log.jsonl``."""
        seconds = round(self.seconds, 1)
        return {"step": self.step, "seconds": seconds, **asdict(self.learned), "validation": self.validation}


# The corpus -------------------------------------------------------------------------------------------------------


def corpus_examples(
    folder: str | Path,
    *,
    features: str | Path | None = None,
    audio: AudioConfig = AudioConfig(),
    speeds: Sequence[float] = (),
    transcriber: str = "",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Example]:
    """Examples of a corpus, of each clip that says its text.

    Parameters
    ----------
    folder : str or Path
        The corpus.
    features : str, Path or None
        Folder where `prepare` keeps what it finds.
    audio : AudioConfig
        Sizes of the log-mel.
    speeds : sequence of float
        Each clip is there once more at one of these, in turn.
    transcriber, workers, progress
        As for `prepare`.
    """
    found = prepare(
        folder, out=features, audio=audio, transcriber=transcriber, workers=workers, progress=progress
    ).features
    rows = [row for row in read_corpus(folder) if row.id in found and found[row.id].ends.size]
    others = [replace(row, speed=speeds[number % len(speeds)]) for number, row in enumerate(rows)] if speeds else []
    speakers = _speakers([*rows, *others], found)
    examples = []
    for row in (*rows, *others):
        wave = row.wave(audio.sample_rate)
        if SHORTEST <= len(wave) / audio.sample_rate <= LONGEST:
            speaker = speakers[row.speaker, row.speed]
            examples.append(_example(row, wave, _at_speed(found[row.id], row.speed), speaker, audio))
    return examples


def _speakers(rows: Sequence[Row], found: dict[str, Features]) -> dict[tuple[str, float], torch.Tensor]:
    """Embedding of each speaker at each speed, (256,): those at other speeds are other speakers."""
    heard = defaultdict(list)
    for row in rows:
        if len(of_speaker := heard[row.speaker, row.speed]) < EMBEDDED:
            of_speaker.append(found[row.id].speaker if row.speed == 1.0 else embed(row.wave(16000), 16000))
    return {name: torch.from_numpy(mean_embedding(of_speaker)) for name, of_speaker in heard.items()}


def _at_speed(own: Features, speed: float) -> Features:
    """What is known of a clip when it is played at another speed; of another speaker then."""
    frames = max(1, round(len(own.pitch) / speed))
    places = np.minimum(np.round(np.arange(frames) * speed).astype(int), len(own.pitch) - 1)
    return replace(own, ends=own.ends / speed, pitch=own.pitch[places] * np.float32(speed))


def _example(row: Row, wave: np.ndarray, found: Features, speaker: torch.Tensor, audio: AudioConfig) -> Example:
    """A clip's wave (samples,), as loud as all others, and what is known of it, in frames."""
    ids = np.array(to_ids(found.text), dtype=np.int64)
    mel = log_mel(wave * found.gain, audio)[0]
    pitch = np.pad(found.pitch, (0, 4), mode="edge")[: mel.shape[1]]  # rounding may leave it a frame short
    return Example(row.key, found.text, ids, mel, found.ends * audio.frames_per_second, speaker, pitch)


# Training ---------------------------------------------------------------------------------------------------------


def pretrain(
    corpus: str | Path,
    *,
    out: str | Path = "data/base",
    config: PretrainConfig = PretrainConfig(),
    features: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[PretrainStep]:
    """Train a base and write it to `out`; an interrupted run goes on from its newest whole checkpoint.

    Parameters
    ----------
    corpus : str or Path
        Folder with ``metadata.csv`` (``id|speaker|text``) and ``audio/`` or ``wavs/``.
    out : str or Path
        Where the base (``model.safetensors``, ``config.json``), ``log.jsonl`` and ``checkpoints/`` go.
    config : PretrainConfig
    features : str, Path or None
        Folder where `prepare` keeps what it finds; ``features/`` in the corpus unless given.
    progress : callable or None
        Called with clips done and clips in all while the corpus is prepared.

    Yields
    ------
    PretrainStep
        Every ``log_every`` steps.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    examples = corpus_examples(corpus, features=features, speeds=config.speeds, transcriber=config.transcriber,
                               workers=config.workers, progress=progress)  # fmt: skip
    training, held_out = _hold_out(examples, config)
    learner, spent = _start(training, config, out / "checkpoints")
    log = Log(out / "log.jsonl")
    log.cut(learner.step)
    began = time.monotonic() - spent
    batches = learner.batches(training, seed=config.seed, workers=config.loaders)
    while (share := _share_spent(config, learner.step, time.monotonic() - began)) < 1:
        learned = learner.learn(_roughened_speakers(next(batches)), share)
        step, seconds = learner.step, time.monotonic() - began
        validation = learner.validate(held_out) if step % config.validate_every == 0 else {}
        if step % config.save_every == 0:
            _save(learner, out, seconds)
        if step % config.log_every == 0 or validation:
            record = PretrainStep(step, seconds, learned, validation)
            log.append(record.as_dict())
            yield record
    _save(learner, out, time.monotonic() - began)
    with atomic_write(out / "training.json", "w") as file:
        measures = learner.validate(held_out)
        content = {"steps": learner.step, "clips": len(training), "config": asdict(config), "measures": measures}
        json.dump(content, file, indent=1)


def _hold_out(examples: list[Example], config: PretrainConfig) -> tuple[list[Example], list[Example]]:
    names = [example.id for example in examples if "@" not in example.id]  # once each, whatever their speeds
    if len(names) < 2 * config.held_out:
        raise TrainingError(
            f"The corpus has {len(names)} clips that fit their texts; at least {2 * config.held_out} are needed "
            f"when {config.held_out} are held out."
        )
    chosen = set(np.random.default_rng(config.seed).choice(names, config.held_out, replace=False).tolist())
    training = [example for example in examples if example.id.partition("@")[0] not in chosen]
    return training, [example for example in examples if example.id in chosen]


def _start(examples: Sequence[Example], config: PretrainConfig, folder: Path) -> tuple[Learner, float]:
    """A learner at its beginning or where it was, and the seconds it has had."""
    model = Tacotron2(config.sizes)
    if config.sizes.normalise_mels:
        model.set_mel_statistics(*mel_statistics(examples))
    if config.start:  # with its own mel statistics, since its weights belong to them
        adopt(model, warm_start(config.start).model)
    learner = Learner(model, config.learn, device=choose_device(config.device))
    newest = newest_checkpoint(folder)
    if newest is None:
        return learner, 0.0
    _, checkpoint = newest
    learner.load_state(checkpoint.training["learner"], checkpoint.model)
    return learner, checkpoint.training["seconds"]


def _share_spent(config: PretrainConfig, step: int, seconds: float) -> float:
    by_time = seconds / (60 * config.minutes)
    return max(by_time, step / config.steps) if config.steps else by_time


def _roughened_speakers(batch: Batch) -> Batch:
    """A little noise on the speaker, so that the model learns a space and not a list of names."""
    return replace(batch, speaker=batch.speaker + SPEAKER_NOISE * torch.randn_like(batch.speaker))


def _save(learner: Learner, out: Path, seconds: float) -> None:
    """The base as it is now, and all that is needed to go on; the checkpoint before the last is dropped."""
    folder = out / "checkpoints"
    older = sorted(folder.glob("step-*.pt"))
    training = {"learner": learner.state(), "seconds": seconds}
    save_checkpoint(
        folder / f"step-{learner.step:06d}.pt", Checkpoint(learner.averaged, learner.step, training=training)
    )
    save_base(out, learner.averaged)
    for path in older[:-1]:
        path.unlink()
