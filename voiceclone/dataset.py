"""From clips to batches: symbol ids, log-mels, and which symbol is spoken in each decoder step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from .audio import AudioConfig, load, log_mel
from .errors import AlignmentError, TrainingError
from .files import atomic_write
from .pitch import track_pitch
from .text import to_ids
from .voice import Clip, Voice

DIAGONAL_WIDTH = 0.1  # of the text; how far from the diagonal a clip that could not be aligned may be attended
FEWEST_SPLIT = 5  # clips of which some are held out


@dataclass(frozen=True)
class Example:
    """One clip as training sees it."""

    id: str
    text: str
    ids: np.ndarray  # (symbols,) int64
    mel: torch.Tensor  # (n_mels, frames) log-mel
    ends: np.ndarray | None  # (symbols,) frame at which each symbol ends; None where alignment failed
    speaker: torch.Tensor | None = None  # (speaker_dim,)
    pitch: np.ndarray | None = None  # (frames,) Hz, 0 where unvoiced


@dataclass(frozen=True)
class Batch:
    """Examples side by side, padded with zeros."""

    text: torch.Tensor  # (batch, symbols)
    text_lengths: torch.Tensor  # (batch,)
    mels: torch.Tensor  # (batch, n_mels, frames)
    mel_lengths: torch.Tensor  # (batch,)
    attention: torch.Tensor  # (batch, steps, symbols), each step's time shared among the symbols spoken in it
    speaker: torch.Tensor | None  # (batch, speaker_dim)
    pitch: torch.Tensor | None = None  # (batch, frames) Hz, 0 where unvoiced

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in memory from which a GPU reads while it computes; torch's loader calls this."""
        return self._each(torch.Tensor.pin_memory)

    def split(self, parts: int) -> list[Batch]:
        """The examples in so many batches of like size, padded as they are; never in more than there are examples."""
        parts = min(parts, len(self.text))
        return [self._each(lambda tensor, part=part: tensor.tensor_split(parts)[part]) for part in range(parts)]

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        values = (getattr(self, field.name) for field in fields(self))
        return Batch(*(None if value is None else change(value) for value in values))


def clip_example(
    clip_id: str, text: str, wave: np.ndarray, config: AudioConfig, speaker: torch.Tensor | None
) -> Example:
    """Make an example of a wave (samples,) at ``config.sample_rate`` and its text."""
    from .align import align  # PocketSphinx, which a corpus whose times are known does without

    ids = np.array(to_ids(text), dtype=np.int64)
    try:
        alignment = align(wave, config.sample_rate, text)
    except AlignmentError:
        alignment = None
    ends = None
    if alignment is not None and alignment.fits:  # times of a text that is not what is said would mislead
        ends = np.array([span.end for span in alignment.spans], dtype=np.float32) * config.frames_per_second
    return Example(clip_id, text, ids, log_mel(wave, config)[0], ends, speaker, track_pitch(wave, config))


def voice_examples(
    voice: Voice, config: AudioConfig, speaker: torch.Tensor | None, progress: Callable[[Clip], None] | None = None
) -> list[Example]:
    """Make examples of all of a voice's usable clips."""
    examples = []
    for clip in voice.usable():
        wave, _ = load(voice.clip_path(clip.id), sample_rate=config.sample_rate)
        examples.append(clip_example(clip.id, clip.transcript, wave, config, speaker))
        if progress:
            progress(clip)
    return examples


def mel_statistics(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each band over all frames, both (n_mels,)."""
    frames = torch.cat([example.mel for example in examples], dim=1)
    return frames.mean(1), frames.std(1).clamp(min=0.1)


# Attention's truth ------------------------------------------------------------------------------------------------


def attention_target(example: Example, n_frames_per_step: int) -> np.ndarray:
    """Share of each decoder step's time that belongs to each symbol, (steps, symbols); rows sum to 1.

    Frame t stands for the time from t - 1/2 to t + 1/2 hops. Where the clip could not be aligned, a band around the
    diagonal stands in (Tachibana et al. 2018, "Efficiently trainable text-to-speech", section 4).
    """
    steps = -(-example.mel.shape[1] // n_frames_per_step)
    edges = np.arange(steps + 1) * n_frames_per_step - 0.5  # in frames
    if example.ends is None:
        at_step = (np.arange(steps)[:, None] + 0.5) / steps
        at_symbol = (np.arange(len(example.ids)) + 0.5) / len(example.ids)
        target = np.exp(-0.5 * ((at_step - at_symbol) / DIAGONAL_WIDTH) ** 2)
    else:
        ends = example.ends.astype(np.float64)
        ends[-1] = max(ends[-1], edges[-1])  # whatever follows belongs to the last symbol
        starts = np.concatenate(([edges[0]], ends[:-1]))
        overlap = np.minimum(edges[1:, None], ends) - np.maximum(edges[:-1, None], starts)
        target = np.maximum(overlap, 0)
    return (target / np.maximum(target.sum(1, keepdims=True), 1e-8)).astype(np.float32)


# Batches ----------------------------------------------------------------------------------------------------------


def collate(
    examples: Sequence[Example], n_frames_per_step: int, *, share: tuple[int, int] = (0, 1), parts: int = 1
) -> Batch:
    """Pad examples to the longest and stack them, or one process's share of them.

    Processes pad their shares alike: the batch norms, and an encoder without a mask, count padding too.

    Parameters
    ----------
    examples : sequence of Example
        Of the batch, those of all processes.
    n_frames_per_step : int
        Frames become a multiple of it.
    share : (int, int)
        Number of this process, and of all processes.
    parts : int
        In which `Batch.split` will divide the share. Processes share each part of the batch by itself, so that its
        clips are those that one process would take together.
    """
    symbols = max(len(example.ids) for example in examples)
    steps = max(-(-example.mel.shape[1] // n_frames_per_step) for example in examples)
    number, processes = share
    rows = (part[number::processes] for part in np.array_split(np.arange(len(examples)), parts))
    examples = [examples[row] for row in np.concatenate(list(rows))]
    count, n_mels = len(examples), examples[0].mel.shape[0]
    text = torch.zeros(count, symbols, dtype=torch.long)
    mels = torch.zeros(count, n_mels, steps * n_frames_per_step)
    pitch = torch.zeros(count, steps * n_frames_per_step)
    attention = torch.zeros(count, steps, symbols)
    for row, example in enumerate(examples):
        text[row, : len(example.ids)] = torch.from_numpy(example.ids)
        mels[row, :, : example.mel.shape[1]] = example.mel
        if example.pitch is not None:
            pitch[row, : len(example.pitch)] = torch.from_numpy(example.pitch)
        target = torch.from_numpy(attention_target(example, n_frames_per_step))
        attention[row, : target.shape[0], : target.shape[1]] = target
    return Batch(
        text,
        torch.tensor([len(example.ids) for example in examples]),
        mels,
        torch.tensor([example.mel.shape[1] for example in examples]),
        attention,
        None if examples[0].speaker is None else torch.stack([example.speaker for example in examples]),
        None if examples[0].pitch is None else pitch,
    )


class Examples(Dataset):
    """A list of examples, as torch's loader wants it."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


class LengthBuckets(Sampler[list[int]]):
    """Endless batches of clips of similar length, in an order that depends on seed and step alone.

    Each epoch shuffles all clips, sorts them by length within pools of some batches (so that little is padding) and
    shuffles the batches. Batches of an epoch are of one size, give or take a clip: a rest of one clip would weigh as
    much as a whole batch. Resuming at a step gives the batches that would have come. They are those of all processes,
    whose shares `collate` takes.

    Parameters
    ----------
    lengths : sequence of int
        Of each clip.
    batch_size : int
        Most clips in a batch, over all processes.
    seed : int
        Of the order.
    first_step : int
        Batches to pass over.
    """

    POOL = 16  # batches sorted together

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int, first_step: int = 0) -> None:
        self.lengths = np.asarray(lengths)
        self.batches_per_epoch = -(-len(lengths) // batch_size)  # never zero, however few the clips
        self.seed = seed
        self.first_step = first_step
        self.smallest = len(lengths) // self.batches_per_epoch  # clips in the smallest batch

    def __iter__(self) -> Iterator[list[int]]:
        epoch, skip = divmod(self.first_step, self.batches_per_epoch)
        while True:
            yield from self._epoch(epoch)[skip:]
            epoch, skip = epoch + 1, 0

    def _epoch(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.lengths))
        edges = np.linspace(0, len(order), self.batches_per_epoch + 1).astype(int)  # of the batches
        for first, last in pairwise([*edges[: -1 : self.POOL], edges[-1]]):  # of the pools
            pool = order[first:last]
            order[first:last] = pool[np.argsort(self.lengths[pool], kind="stable")]
        batches = [order[first:last].tolist() for first, last in pairwise(edges)]
        return [batches[index] for index in rng.permutation(len(batches))]


# The split --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Which clips are learned from and which are only listened to."""

    training: tuple[str, ...]
    validation: tuple[str, ...]

    def __post_init__(self) -> None:
        if overlap := set(self.training) & set(self.validation):
            raise TrainingError(f"Clips {', '.join(sorted(overlap))} are in training and validation at once.")


def _known_split(path: Path) -> Split:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Split(tuple(content["training"]), tuple(content["validation"]))
    except (ValueError, LookupError, TypeError) as error:
        raise TrainingError(
            f"{path}, which says what clips are held out, cannot be read ({error}). Get it back from a copy; or delete "
            "it, and they are chosen anew: then some may have been learned from already."
        ) from error


def split_clips(
    ids: Sequence[str], path: Path, *, share: float = 0.08, seed: int = 1234, write: bool = True
) -> Split:
    """Divide clips once and keep the division in `path`; clips that came later join the training.

    Under 5 clips nothing is held out: each one is worth more in training. When there are 5, some are, and of those
    that were not learned from yet if there are such.

    Parameters
    ----------
    ids : sequence of str
        Of the clips.
    path : Path
        Where the division is kept.
    share : float
        Of the clips to hold out.
    seed : int
        Of the choice.
    write : bool
        Of several processes only one writes.

    Raises
    ------
    TrainingError
        If the division that was made before cannot be read.
    """
    known = _known_split(path) if path.exists() else Split((), ())
    held_out = tuple(i for i in known.validation if i in ids)
    if not held_out and len(ids) >= FEWEST_SPLIT:
        count = max(1, min(round(share * len(ids)), 50))
        unlearned = sorted(set(ids) - set(known.training))
        candidates = unlearned if len(unlearned) >= count else sorted(ids)
        held_out = tuple(sorted(np.random.default_rng(seed).choice(candidates, count, replace=False).tolist()))
    split = Split(tuple(i for i in ids if i not in held_out), held_out)
    if write and split != known:
        with atomic_write(path, "w") as file:
            json.dump({"training": split.training, "validation": split.validation}, file, indent=1)
    return split
