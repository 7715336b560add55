"""Which sound is when: forced alignment of a clip to its text with PocketSphinx and the acoustic model in its wheel.

Two passes: the first finds the words and the pauses between them, the second the phones within each word. Words are
given to PocketSphinx as the phonemes that the model's front-end makes of them, so that phones and symbols match one
for one and no word is unknown.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from .audio import resample
from .errors import AlignmentError
from .text import symbol_names, to_ids

if TYPE_CHECKING:
    from pocketsphinx import Decoder

__all__ = ["AlignmentError", "PhoneAlignment", "Span", "align"]

SAMPLE_RATE = 16000  # Hz, what the acoustic model was trained on
FRAME = 0.01  # s between the acoustic model's frames
# A frame looks at 25.6 ms of sound and stands for the 10 ms in their middle.
FRAME_START = (0.0256 - FRAME) / 2  # s
SHORTEST_PHONE = 3 * FRAME  # s: a phone has three states of at least a frame each
# PocketSphinx counts in steps of 1024 ln(1.0001) nats, relative to the best sound of each frame.
NATS = 1024 * math.log(1.0001)

# Room noise as loud as the clip's own is put before and after it, so that a clip trimmed closely begins and ends with a
# pause too; and a faint noise everywhere, for exact zeros have no logarithm.
PADDING = 0.15  # s
FAINT = 1e-4  # of full scale

# Measured on 150 clips of synthetic speech by ten voices, with their own texts and with wrong ones (nats a frame):
# own texts score -1.7 in the median, 1 % below -3.7; texts of other clips -6.8, 5 % above -4.8, and four in ten
# cannot be aligned at all. The worst word of own texts is below -8.7 in 1 % of the clips; with one word replaced by
# another it is in four of ten. White noise at 20 dB costs about 1 nat. No phone of own texts was longer than 0.32 s.
LEAST_SCORE = -4.2
LEAST_WORD_SCORE = -8.7
LONGEST_PHONE = 0.6  # s
# A word of one or two phones is too short to be judged alone.
LEAST_PHONES = 3


@dataclass(frozen=True)
class Span:
    """When a symbol is spoken, in seconds; a mark or space where no pause is made has no length."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True)
class PhoneAlignment:
    """The time of every symbol of a text in a clip."""

    spans: tuple[Span, ...]  # one for each of to_ids(text), without gaps, from 0 to the clip's duration
    speech_start: float  # s, where the first phone begins
    speech_end: float  # s, where the last phone ends
    score: float  # nats a frame of 10 ms, mean over the speech: 0 is the best that any sounds could reach
    word_score: float  # the same of the word that fits worst, among those of three or more phones
    longest_phone: float  # s

    @property
    def fits(self) -> bool:
        """Whether the clip plausibly says the text; a single exchanged word is found in four of ten cases."""
        return (
            self.score >= LEAST_SCORE
            and self.word_score >= LEAST_WORD_SCORE
            and self.longest_phone <= LONGEST_PHONE
        )


def align(wave: np.ndarray, sample_rate: int, text: str) -> PhoneAlignment:
    """Find when each symbol of a text is spoken. Takes about 0.04 s for a second of speech.

    Parameters
    ----------
    wave : np.ndarray, shape (samples,)
        Speech; its level does not matter.
    sample_rate : int
        Hz.
    text : str
        What is said.

    Returns
    -------
    PhoneAlignment
        One span for each of ``to_ids(text)``, in order and without gaps. A pause belongs to the mark there, or to
        the space where there is no mark; silence before the first word belongs to its first phone.

    Raises
    ------
    AlignmentError
        If the wave is silent or too short for the text, or its sounds cannot be brought into the text's order.
    TextError
        If the text cannot be spoken.
    """
    names = symbol_names(to_ids(text))
    words = [tuple(run) for spoken, run in groupby(names, key=_is_phone) if spoken]
    duration = len(wave) / sample_rate
    least = SHORTEST_PHONE * sum(map(len, words))
    if duration < least:
        raise AlignmentError(
            f"{duration:.2f} s of sound are too short to say {text!r}: at least {least:.2f} s are needed. "
            "Check which text belongs to the clip, or record it again."
        )
    entries = _entries(_pcm(wave, sample_rate), words, text)
    offset = FRAME_START - PADDING
    times = [  # (start, end) of each phone
        (_within(start * FRAME + offset, duration), _within((start + length) * FRAME + offset, duration))
        for phones in entries
        for start, length, _ in phones
    ]
    word_scores = [_mean_score(phones) for phones in entries if len(phones) >= LEAST_PHONES]
    score = _mean_score([phone for phones in entries for phone in phones])
    return PhoneAlignment(
        spans=_spans(names, times, duration),
        speech_start=times[0][0],
        speech_end=times[-1][1],
        score=score,
        word_score=min(word_scores, default=score),
        longest_phone=max(length for phones in entries for _, length, _ in phones) * FRAME,
    )


# PocketSphinx -----------------------------------------------------------------------------------------------------

_OF_THREAD = threading.local()  # a decoder serves one thread at a time

_Phone = tuple[int, int, int]  # first frame, frames, score in PocketSphinx's steps


def _decoder() -> Decoder:
    """The thread's decoder, made when first needed (0.03 s); it keeps the words it has met."""
    if not hasattr(_OF_THREAD, "decoder"):
        from pocketsphinx import Decoder, get_model_path

        _OF_THREAD.decoder = Decoder(
            hmm=get_model_path("en-us/en-us"),
            lm=None,
            dict=None,
            # Narrower beams lose right texts in noise: at 10 dB a quarter of them.
            beam=1e-160,
            wbeam=1e-160,
            pbeam=1e-160,
            # Word times from the lattice can be too short for the second pass (cmusphinx/pocketsphinx pull 500).
            bestpath=False,
            loglevel="FATAL",
        )
    return _OF_THREAD.decoder


def _entries(pcm: bytes, words: list[tuple[str, ...]], text: str) -> list[list[_Phone]]:
    """Phones of each word, pauses left out."""
    decoder = _decoder()
    spellings = []
    for word in words:
        phones = [name[1:].rstrip("012") for name in word]  # "@AH0" -> "AH": the acoustic model knows no stress
        spelling = "-".join(phones)
        if decoder.lookup_word(spelling) is None:
            decoder.add_word(spelling, " ".join(phones), update=False)
        spellings.append(spelling)
    try:
        decoder.reinit_feat()  # forgets the noise of the clip before, so that times depend on this clip alone
        decoder.set_align_text(" ".join(spellings))
        _decode(decoder, pcm)
        decoder.set_alignment()
        _decode(decoder, pcm)
        alignment = decoder.get_alignment()
    except RuntimeError as error:
        raise _misfit(text) from error
    known = set(spellings)
    # Each word must be read while it is the iterator's: PocketSphinx frees it with the next step.
    entries = [
        [(phone.start, phone.duration, phone.score) for phone in word]
        for word in alignment or ()
        if word.name in known
    ]
    if list(map(len, entries)) != list(map(len, words)) or not all(p[1] > 0 for phones in entries for p in phones):
        raise _misfit(text)
    return entries


def _decode(decoder: Decoder, pcm: bytes) -> None:
    decoder.start_utt()
    try:
        decoder.process_raw(pcm, full_utt=True)
    finally:
        decoder.end_utt()


def _misfit(text: str) -> AlignmentError:
    return AlignmentError(
        f"The sounds of the clip do not follow the text {text!r}. "
        "Listen to it, then correct its transcript (notebook 02) or record it again (notebook 01)."
    )


def _pcm(wave: np.ndarray, sample_rate: int) -> bytes:
    """16-bit samples at the acoustic model's rate, peak at half scale, with a margin of noise at both ends."""
    wave = np.asarray(wave, dtype=np.float32)
    peak = float(np.abs(wave).max())
    if not np.isfinite(peak) or peak == 0:
        raise AlignmentError("The clip is silent or holds values that are not numbers. Record it again.")
    wave = resample(wave / (2 * peak), sample_rate, SAMPLE_RATE)
    margin = round(PADDING * SAMPLE_RATE)
    level = np.full(len(wave) + 2 * margin, FAINT, dtype=np.float32)
    level[:margin] = level[-margin:] = max(FAINT, _room_noise(wave))
    noise = np.random.default_rng(0).normal(size=len(level)).astype(np.float32)
    wave = np.pad(wave, margin) + level * noise
    return (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()


def _room_noise(wave: np.ndarray) -> float:
    """Level of the quietest parts: the 5th percentile over 50 ms frames."""
    size = SAMPLE_RATE // 20
    if len(wave) < size:
        return 0.0
    frames = wave[: len(wave) // size * size].reshape(-1, size)  # (samples,) -> (frames, size)
    return float(np.percentile(np.sqrt((frames**2).mean(axis=1)), 5))


def _mean_score(phones: list[_Phone]) -> float:
    return NATS * sum(score for _, _, score in phones) / sum(length for _, length, _ in phones)


# From phones to symbols -------------------------------------------------------------------------------------------


def _is_phone(name: str) -> bool:
    return name.startswith("@")


def _within(seconds: float, duration: float) -> float:
    return min(max(seconds, 0.0), duration)


def _spans(names: list[str], times: list[tuple[float, float]], duration: float) -> tuple[Span, ...]:
    """Give every symbol its time; the pauses between phones go to the marks and spaces there."""
    ends: list[float] = []
    phone = 0
    for spoken, run in groupby(names, key=_is_phone):
        run = list(run)
        if spoken:
            ends += [end for _, end in times[phone : phone + len(run)]]
            phone += len(run)
            continue
        pause_start = ends[-1] if ends else 0.0
        pause_end = times[phone][0] if phone < len(times) else duration
        # The pause is the first mark's; without one it is the space's.
        holder = next((k for k, name in enumerate(run) if name != " "), 0)
        ends += [pause_start if k < holder else pause_end for k in range(len(run))]
    ends[-1] = duration
    starts = [0.0, *ends[:-1]]
    return tuple(Span(*span) for span in zip(names, starts, ends, strict=True))
