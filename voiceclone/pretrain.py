"""Making a base: the `small` preset trained on a corpus of many speakers, from which a voice is adapted.

A corpus is a folder with ``metadata.csv`` (``id|speaker|text``, one row a clip, no header) and the sounds in
``audio/<id>.*`` or ``wavs/<id>.*``. What is slow to find out (which phone is when, who speaks) is kept in
``features.npz``, so that a second run, or another machine, begins at once.
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
from .dataset import Batch, Example
from .device import choose_device
from .errors import TrainingError
from .files import atomic_path, atomic_write
from .learn import LearnConfig, Learned, Learner
from .levels import TARGET_LUFS, loudness
from .pitch import track_pitch
from .prepare import Row, read_corpus
from .tacotron2 import PRESETS, LossConfig, Tacotron2, Tacotron2Config
from .tacotron2.checkpoint import Checkpoint, adopt, load_base, newest_checkpoint, save_base, save_checkpoint
from .text import FRONT_END, to_ids

SHORTEST, LONGEST = 0.7, 15.0  # s; outside, clips teach little and cost much
EMBEDDED = 20  # clips of a speaker that are enough to know it by
SPEAKER_NOISE = 0.01  # deviation of what is added to each value of an embedding, whose norm is 1


@dataclass(frozen=True)
class PretrainConfig:
    """How a base is trained. The budget is in minutes or in steps, whichever is spent first."""

    minutes: float = 150.0
    steps: int | None = None
    preset: str = "small"
    start: str | None = None  # folder of a base to go on from; None begins with random weights
    speeds: tuple[float, ...] = (0.87, 1.15)  # each clip is also learned at one of these, in turn: another speaker
    held_out: int = 40  # clips kept for validation
    validate_every: int = 200  # steps
    save_every: int = 200  # steps
    log_every: int = 50  # steps
    workers: int = 0  # processes that make batches; 0 = none beside this one
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
    features: Path,
    audio: AudioConfig,
    speeds: Sequence[float] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Example]:
    """Examples of a corpus, of each clip that could be aligned with its text.

    Parameters
    ----------
    folder : str or Path
        The corpus.
    features : Path
        File that keeps phone times, pitch, embeddings and gains; made when missing, extended when clips were added.
    audio : AudioConfig
        Sizes of the log-mel.
    speeds : sequence of float
        Each clip is there once more at one of these, in turn.
    progress : callable or None
        Called with clips done and clips in all.
    """
    rows = read_corpus(folder)
    known = _read_features(features)
    missing = _missing(rows, known)
    new = _find_features(missing, audio, progress) if missing else {}
    if speeds:
        rows += [replace(row, speed=speeds[number % len(speeds)]) for number, row in enumerate(rows)]
        new |= _features_at_speeds(_missing(rows, known | new), known | new)
    if new:
        known |= new
        _write_features(features, known)
    examples = []
    for row in rows:
        found = known[row.key]
        if found.ends.size == 0:  # could not be aligned: its text is not what is said
            continue
        wave = row.wave(audio.sample_rate)
        if SHORTEST <= len(wave) / audio.sample_rate <= LONGEST:
            mel = log_mel(wave * found.gain, audio)[0]
            ends = found.ends * audio.frames_per_second
            ids = np.array(to_ids(row.text), dtype=np.int64)
            pitch = np.pad(found.pitch, (0, 4), mode="edge")[: mel.shape[1]]  # rounding may leave it a frame short
            examples.append(Example(row.key, row.text, ids, mel, ends, torch.from_numpy(found.speaker), pitch))
    return examples


@dataclass(frozen=True)
class Features:
    """What is slow to find out of a clip."""

    ends: np.ndarray  # (symbols,) s; empty where the clip could not be aligned
    pitch: np.ndarray  # (frames,) Hz, 0 where unvoiced
    speaker: np.ndarray  # (256,)
    gain: float  # brings the clip to TARGET_LUFS


def _missing(rows: Sequence[Row], known: dict[str, Features]) -> list[Row]:
    """Rows of which nothing is known, or only of another text."""
    return [row for row in rows if row.key not in known or _outdated(known[row.key], row.text)]


def _outdated(features: Features, text: str) -> bool:
    """Whether phone times are those of another text, which had more or fewer symbols."""
    return features.ends.size not in (0, len(to_ids(text)))


def _find_features(
    rows: Sequence[Row], audio: AudioConfig, progress: Callable[[int, int], None] | None
) -> dict[str, Features]:
    """Align every clip, find its pitch and gain, and give it the embedding of its speaker."""
    from .align import align_many

    speakers = _speakers(rows)
    waves, gains, pitches = [], {}, {}
    for done, row in enumerate(rows, 1):
        wave = row.wave(audio.sample_rate)
        waves.append((wave, audio.sample_rate, row.text))
        pitches[row.id] = track_pitch(wave, audio)
        gains[row.id] = 10 ** ((TARGET_LUFS - loudness(wave, audio.sample_rate)) / 20)
        if progress:
            progress(done, 2 * len(rows))
    found = {}
    for done, (row, alignment) in enumerate(zip(rows, align_many(waves), strict=True), 1):
        fits = alignment is not None and alignment.fits
        ends = np.array([span.end for span in alignment.spans] if fits else [], dtype=np.float32)
        found[row.id] = Features(ends, pitches[row.id], speakers[row.speaker, row.speed], gains[row.id])
        if progress:
            progress(len(rows) + done, 2 * len(rows))
    return found


def _features_at_speeds(rows: Sequence[Row], known: dict[str, Features]) -> dict[str, Features]:
    """The features of clips played at other speeds, which follow from those at their own; only speakers change."""
    speakers = _speakers(rows)
    found = {}
    for row in rows:
        own = known[row.id]
        frames = max(1, round(len(own.pitch) / row.speed))
        places = np.minimum(np.round(np.arange(frames) * row.speed).astype(int), len(own.pitch) - 1)
        pitch = own.pitch[places] * np.float32(row.speed)
        found[row.key] = Features(own.ends / row.speed, pitch, speakers[row.speaker, row.speed], own.gain)
    return found


def _speakers(rows: Sequence[Row]) -> dict[tuple[str, float], np.ndarray]:
    """Embedding of each speaker at each speed, (256,)."""
    from .speaker import embed, mean_embedding

    embeddings = defaultdict(list)
    for row in rows:
        if len(of_speaker := embeddings[row.speaker, row.speed]) < EMBEDDED:
            of_speaker.append(embed(row.wave(16000), 16000))
    return {name: mean_embedding(of_speaker).astype(np.float32) for name, of_speaker in embeddings.items()}


def _read_features(path: Path) -> dict[str, Features]:
    if not path.exists():
        return {}
    with np.load(path) as file:
        if str(file["front_end"]) != FRONT_END or "pitch" not in file:
            return {}
        ends = np.split(file["ends"], np.cumsum(file["counts"])[:-1])
        pitch = np.split(file["pitch"].astype(np.float32), np.cumsum(file["frames"])[:-1])
        columns = zip(file["ids"], ends, pitch, file["speakers"].astype(np.float32), file["gains"], strict=True)
        return {str(name): Features(e, p, speaker, float(gain)) for name, e, p, speaker, gain in columns}


def _write_features(path: Path, features: dict[str, Features]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            front_end=FRONT_END,
            ids=list(features),
            counts=[len(f.ends) for f in features.values()],
            ends=np.concatenate([f.ends for f in features.values()]),
            frames=[len(f.pitch) for f in features.values()],
            pitch=np.concatenate([f.pitch for f in features.values()]).astype(np.float16),
            speakers=np.stack([f.speaker for f in features.values()]).astype(np.float16),
            gains=np.array([f.gain for f in features.values()]),
        )


# Training ---------------------------------------------------------------------------------------------------------


def mel_statistics(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each band over all frames, both (n_mels,)."""
    frames = torch.cat([example.mel for example in examples], dim=1)
    return frames.mean(1), frames.std(1).clamp(min=0.1)


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
        Where to keep what is slow to find out; ``features.npz`` in `out` unless given.
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
    path = Path(features or out / "features.npz")
    examples = corpus_examples(corpus, path, AudioConfig(), config.speeds, progress)
    training, held_out = _hold_out(examples, config)
    learner, spent = _start(PRESETS[config.preset], training, config, out / "checkpoints")
    began = time.monotonic() - spent
    batches = learner.batches(training, seed=config.seed, workers=config.workers)
    while (share := _share_spent(config, learner.step, time.monotonic() - began)) < 1:
        learned = learner.learn(_roughened_speakers(next(batches)), share)
        step, seconds = learner.step, time.monotonic() - began
        validation = learner.validate(held_out) if step % config.validate_every == 0 else {}
        if step % config.save_every == 0:
            _save(learner, out, seconds)
        if step % config.log_every == 0 or validation:
            record = PretrainStep(step, seconds, learned, validation)
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(record.as_dict()) + "\n")
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


def _start(
    sizes: Tacotron2Config, examples: Sequence[Example], config: PretrainConfig, folder: Path
) -> tuple[Learner, float]:
    """A learner at its beginning or where it was, and the seconds it has had."""
    model = Tacotron2(sizes)
    model.set_mel_statistics(*mel_statistics(examples))
    if config.start:  # with its own mel statistics, since its weights belong to them
        adopt(model, load_base(config.start))
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
