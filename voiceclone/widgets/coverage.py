"""A small map of the sounds of English: which of them have been read so far, and how often."""

from __future__ import annotations

import html
from collections.abc import Iterable
from functools import lru_cache

from ..prompts import PROMPTS, coverage
from .panel import Markup

# A word in which each sound is plain to hear; the sound's letters in capitals.
EXAMPLES = {
    "AA": "fAther", "AE": "cAt", "AH": "cUp", "AO": "cAUght", "AW": "hOUse", "AY": "tIme", "B": "Book", "CH": "CHair",
    "D": "Door", "DH": "THis", "EH": "bEd", "ER": "bIRd", "EY": "dAY", "F": "Fish", "G": "Good", "HH": "House",
    "IH": "sIt", "IY": "sEE", "JH": "Jump", "K": "Cat", "L": "Light", "M": "Moon", "N": "Nose", "NG": "siNG",
    "OW": "gO", "OY": "bOY", "P": "Pen", "R": "Red", "S": "Sun", "SH": "SHoe", "T": "Tea", "TH": "THink",
    "UH": "bOOk", "UW": "mOOn", "V": "Voice", "W": "Water", "Y": "Yes", "Z": "Zoo", "ZH": "meaSure",
}  # fmt: skip

_TILE = (
    "position:relative;overflow:hidden;width:2.5em;padding:.15em 0;border-radius:.35em;text-align:center;"
    "font-variant-numeric:tabular-nums;box-shadow:inset 0 0 0 1px rgba(127,127,127,.3)"
)
_FILL = "position:absolute;inset:auto 0 0 0;background:var(--vc-accent,var(--jp-brand-color1,#1976d2));opacity:.28"


def coverage_map(texts: Iterable[str], goal: Iterable[str] = PROMPTS) -> Markup:
    """Every sound as a tile that fills as it is read; full is as often as in all the sentences.

    Parameters
    ----------
    texts
        The sentences read so far.
    goal
        All sentences.
    """
    have, want = _counted(tuple(texts)), _counted(tuple(goal))
    wanted = [sound for sound in want if want[sound]]
    tiles = "".join(_tile(sound, have[sound], want[sound]) for sound in wanted)
    heard = sum(have[sound] > 0 for sound in wanted)
    said = f"{heard} of {len(wanted)} sounds of English read"
    grid = f'<div role="list" style="display:flex;flex-wrap:wrap;gap:.3em;font-size:.78em">{tiles}</div>'
    return Markup(f'<div aria-label="{said}"><div style="margin-bottom:.4em">{said}</div>{grid}</div>', said)


@lru_cache(maxsize=4)
def _counted(texts: tuple[str, ...]) -> dict[str, int]:
    return coverage(texts).counts


def _tile(sound: str, have: int, want: int) -> str:
    share = min(1.0, have / want)
    words = f"{sound} as in {EXAMPLES[sound]}: read {have} of {want} times"
    fill = f'<i style="{_FILL};height:{100 * share:.0f}%"></i>'
    faint = "" if have else ";opacity:.6"
    return (
        f'<span role="listitem" title="{html.escape(words)}" aria-label="{html.escape(words)}" '
        f'style="{_TILE}{faint}">{fill}<span style="position:relative">{sound}</span></span>'
    )
