"""From English text to the numbers of the symbols that the model reads, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import TextError
from .normalise import normalise
from .pronounce import Token, parse, pronounce
from .symbols import ARPABET, IDS, PAD, PHONEMES, SYMBOLS

# Stored in every checkpoint: a model speaks well only what was written to symbols the same way as in training.
# Raise the number when the symbols of a text change.
FRONT_END = "english-arpabet/1"
LETTERS = "english-letters/1"  # of others' checkpoints that were trained on plain letters: `to_ids(..., arpabet=False)`
FRONT_ENDS = (FRONT_END, LETTERS)

__all__ = [
    "ARPABET", "FRONT_END", "FRONT_ENDS", "LETTERS", "PAD", "PHONEMES", "SYMBOLS", "Token", "normalise", "parse",
    "pronounce", "split_sentences", "symbol_names", "to_ids", "to_text",
]


def to_ids(text: str, *, arpabet: bool = True) -> list[int]:
    """Numbers of the symbols of a text.

    Parameters
    ----------
    text : str
        English, with phonemes in braces where wanted: ``"Turn left on {HH AW1 S T AH0 N} Street."``
    arpabet : bool
        True: the phonemes of each word, one space between words, marks directly after their word, and always a
        mark at the end. False: the normalised text letter by letter in lower case, for checkpoints that were
        trained on letters; groups in braces stay phonemes.

    Returns
    -------
    list of int
        Indices into ``SYMBOLS``.

    Raises
    ------
    TextError
        For what cannot be spoken, with its position, and for a text without a word.
    """
    if not arpabet:
        return _letter_ids(text)
    ids: list[int] = []
    for token in parse(text):
        if not token.phones:
            ids.append(IDS[token.text])
            continue
        if ids:
            ids.append(IDS[" "])
        ids += [IDS[f"@{phone}"] for phone in token.phones]
    return ids


def _letter_ids(text: str) -> list[int]:
    normalised = normalise(text)
    if not re.search(r"[A-Za-z{]", normalised):
        raise TextError(f"There is nothing to say in {text!r}: it has no word.")
    ids: list[int] = []
    for piece in re.findall(r"\{[^}]*\}|[^{]", normalised):
        group = piece[1:-1].split()
        ids += [IDS[f"@{phone}"] for phone in group] if group else [IDS[piece.lower()]]
    return ids


def symbol_names(ids: Iterable[int]) -> list[str]:
    """Names of symbols: ``"@HH"``, ``" "``, ``"."``; an unknown number is a TextError."""
    ids = [int(number) for number in ids]
    for place, number in enumerate(ids):
        if not 0 <= number < len(SYMBOLS):
            raise TextError(f"{number} at place {place} is no symbol: expected 0 to {len(SYMBOLS) - 1}.")
    return [SYMBOLS[number] for number in ids]


def to_text(ids: Iterable[int]) -> str:
    """Write symbols as text that `to_ids` reads back to the same symbols; padding is left out.

    Examples
    --------
    >>> to_text(to_ids("Hello, world"))
    '{HH AH0 L OW1}, {W ER1 L D}.'
    """
    names = [name for name in symbol_names(ids) if name != PAD]
    written = "".join(f"{{{name[1:]}}}" if name.startswith("@") else name for name in names)
    return written.replace("}{", " ")


def split_sentences(text: str, *, max_chars: int = 140) -> list[str]:
    """Normalised sentences of a text, each short enough to be spoken in one breath.

    Splits after ``. ! ?`` and at blank lines; a sentence longer than `max_chars` also after ``; :``, then after
    commas and dashes, then between words. The default is some ten seconds of speech, about as long as the
    sentences that models are trained on.
    """
    if max_chars < 1:
        raise TextError(f"max_chars is {max_chars}, expected 1 or more.")
    paragraphs = (normalise(paragraph) for paragraph in re.split(r"\n\s*\n", text))
    sentences = [s for paragraph in paragraphs for s in re.split(r"(?<=[.!?])\s+", paragraph) if _has_word(s)]
    return [part for sentence in sentences for part in _shortened(sentence, max_chars)]


def _has_word(text: str) -> bool:
    return re.search(r"[A-Za-z]", text) is not None


def _shortened(sentence: str, max_chars: int) -> list[str]:
    """Cut a sentence at its strongest marks into the fewest parts of at most `max_chars` (one word at least)."""
    for boundary in (r"(?<=[;:])\s+", r"(?<=[,)])\s+|\s-\s", r"\s+(?![^{]*\})"):
        if len(sentence) <= max_chars:
            break
        parts: list[str] = []
        for part in re.split(boundary, sentence):
            if parts and len(parts[-1]) + 1 + len(part) <= max_chars:
                parts[-1] += f" {part}"
            elif part:
                parts.append(part)
        if len(parts) > 1:
            return [short for part in parts for short in _shortened(part, max_chars)]
    return [sentence]
