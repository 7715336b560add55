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
# Of others' checkpoints, which are spoken to as they were trained:
FAKEYOU = "fakeyou-arpabet/1"  # phonemes with a space before each mark too, as in FakeYou's training
LETTERS = "english-letters/1"  # plain letters, as NVIDIA's
FRONT_ENDS = (FRONT_END, FAKEYOU, LETTERS)

__all__ = [
    "ARPABET", "FAKEYOU", "FRONT_END", "FRONT_ENDS", "LETTERS", "PAD", "PHONEMES", "SYMBOLS", "Token", "normalise",
    "parse", "pronounce", "split_sentences", "symbol_names", "to_ids", "to_text",
]


def to_ids(text: str, *, front_end: str = FRONT_END) -> list[int]:
    """Numbers of the symbols of a text.

    Parameters
    ----------
    text : str
        English, with phonemes in braces where wanted: ``"Turn left on {HH AW1 S T AH0 N} Street."``
    front_end : str
        ``"english-arpabet/1"``: the phonemes of each word, one space between words, marks directly after their word,
        and always a mark at the end. ``"fakeyou-arpabet/1"``: the same, but one space before marks as well.
        ``"english-letters/1"``: the normalised text letter by letter in lower case, with all marks that are symbols
        and a full stop after a text that ends in none; groups in braces stay phonemes.

    Returns
    -------
    list of int
        Indices into ``SYMBOLS``.

    Raises
    ------
    TextError
        For what cannot be spoken, with its position, and for a text without a word.
    """
    if front_end not in FRONT_ENDS:
        raise TextError(f"front_end={front_end!r} is not known; there are {', '.join(FRONT_ENDS)}.")
    if front_end == LETTERS:
        return _letter_ids(text)
    ids: list[int] = []
    for token in parse(text):
        if ids and (token.phones or front_end == FAKEYOU):
            ids.append(IDS[" "])
        ids += [IDS[f"@{phone}"] for phone in token.phones] if token.phones else [IDS[token.text]]
    return ids


def _letter_ids(text: str) -> list[int]:
    normalised = normalise(text, letters=True)
    if not re.search(r"[A-Za-z{]", normalised):
        raise TextError(f"There is nothing to say in {text!r}: it has no word.")
    if re.search(r"[A-Za-z}]$", normalised):
        normalised += "."  # without any mark such models may find no end
    ids: list[int] = []
    for piece in re.findall(r"\{[^}]*\}|[^{]", normalised):
        if piece.startswith("{"):
            ids += [IDS[f"@{phone}"] for phone in piece[1:-1].split()]
        elif piece in IDS and piece != PAD:  # quotation marks, brackets and the like are silent
            ids.append(IDS[piece.lower()])
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


def split_sentences(text: str, *, max_chars: int = 140, front_end: str = FRONT_END) -> list[str]:
    """Normalised sentences of a text, each short enough to be spoken in one breath.

    Splits after ``. ! ?`` and at blank lines; a sentence longer than `max_chars` also after ``; :``, then after
    commas and dashes, then between words. The default is some ten seconds of speech, about as long as the
    sentences that models are trained on. `front_end` is as for `to_ids`.
    """
    if max_chars < 1:
        raise TextError(f"max_chars is {max_chars}, expected 1 or more.")
    paragraphs = (normalise(paragraph, letters=front_end == LETTERS) for paragraph in re.split(r"\n\s*\n", text))
    end = _WRITTEN_END if front_end == LETTERS else _END
    sentences = [s for paragraph in paragraphs for s in re.split(end, paragraph) if _has_word(s)]
    return [part for sentence in sentences for part in _shortened(sentence, max_chars)]


_END = r"(?<=[.!?])\s+"
# Not in "J. Edgar", "the U.S. Army", "wait... what"; quotation marks and brackets close after the mark.
_WRITTEN_END = r"(?:(?<=[.!?])(?<!\b[A-Za-z]\.)|(?<=[.!?][\"')\]]))\s+(?![a-z])"


def _has_word(text: str) -> bool:
    return re.search(r"[A-Za-z]", text) is not None


def _shortened(sentence: str, max_chars: int) -> list[str]:
    """Cut a sentence at its strongest marks into the fewest parts of at most `max_chars` (one word at least)."""
    for boundary in (r"(?<=[;:])\s+", r"(?<=[,)])\s+|\s-+\s", r"\s+(?![^{]*\})"):
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
