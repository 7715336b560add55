"""Which characters can be spoken: everything is folded to ASCII or refused with its place, nothing is lost unsaid."""

from __future__ import annotations

import re
import unicodedata

from ..errors import TextError
from .symbols import ARPABET

# Told apart only by typographers, or silent. Dashes are left to the rules of normalise: "–" for the short ones.
_FOLDED = {
    **dict.fromkeys("‘’‚‛′ʼ´", "'"),
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("\u2010\u2011\u2212", "-"),
    **dict.fromkeys("\u2012\u2013", "–"), **dict.fromkeys("\u2014\u2015", "--"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad®™", ""),  # invisible, or marks of trade
    **dict.fromkeys("•·", " "),
    "¼": " 1/4", "½": " 1/2", "¾": " 3/4", "²": " squared", "³": " cubed",
    "×": " times ", "÷": " divided by ", "±": " plus or minus ", "≈": " about ", "≠": " is not equal to ",
    "≤": " at most ", "≥": " at least ", "©": " copyright ", "§": " section ", "№": " number ",
    "µ": "µ", "μ": "µ", "°": "°", "£": "£", "€": "€", "¥": "¥", "¢": "¢",  # said by the rules of normalise
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i",
}
_UNSPEAKABLE = "^|\\"  # the printable ASCII that no rule says
_BRACES = re.compile(r"\{([^{}]*)\}")


def fold(text: str) -> list[str]:
    """Reduce a text to the characters that the rules of `normalise` know.

    Parameters
    ----------
    text : str
        Anything. ``{HH AW1}`` are phonemes, taken as they are.

    Returns
    -------
    list of str
        Plain text and phoneme groups by turns: plain ones (perhaps empty) at even places, ``{...}`` at odd ones.

    Raises
    ------
    TextError
        For a character that cannot be spoken, an unknown phoneme or a lonely brace, with its position.
    """
    pieces, end = [], 0
    for match in _BRACES.finditer(text):
        pieces += [_plain(text, end, match.start()), _phonemes(text, match)]
        end = match.end()
    return [*pieces, _plain(text, end, len(text))]


def _plain(text: str, start: int, end: int) -> str:
    return "".join(_character(text, position) for position in range(start, end))


def _character(text: str, position: int) -> str:
    """ASCII for one character (– µ ° and the signs of currencies stay)."""
    character = text[position]
    if character in "{}":
        raise TextError(f"{_place(text, position)}: a brace without its other half. Phonemes stand in {{HH AW1}}.")
    if character in _FOLDED:
        return _FOLDED[character]
    if character.isspace():
        return " "
    if character.isascii() and character.isprintable() and character not in _UNSPEAKABLE:
        return character
    if unicodedata.combining(character) and re.match("[A-Za-z]", text[max(0, position - 1)]):
        return ""  # an accent that follows its letter
    parts = unicodedata.normalize("NFKD", character)
    plain = "".join(part for part in parts if not unicodedata.combining(part)).replace("\u2044", "/")
    if plain and plain.isascii() and plain.isprintable() and character not in _UNSPEAKABLE:
        return plain
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    raise TextError(
        f"{_place(text, position)}: cannot say {character!r} ({name}). Leave it out or write it in English words."
    )


def _phonemes(text: str, match: re.Match) -> str:
    phones = match[1].split()
    if not phones:
        raise TextError(f"{_place(text, match.start())}: empty braces. Write phonemes in them, as in {{HH AW1}}.")
    for phone in re.finditer(r"\S+", match[1]):
        if phone[0] not in ARPABET:
            raise TextError(
                f"{_place(text, match.start(1) + phone.start())}: {phone[0]!r} is no ARPAbet phoneme. "
                f"Known ones: {' '.join(ARPABET)}."
            )
    return f"{{{' '.join(phones)}}}"


def _place(text: str, position: int) -> str:
    """Where in the text, for messages: the position counts from 0, as Python does."""
    around = text[max(0, position - 15):position + 16]
    return f"Position {position} of the text, in {around!r}"
