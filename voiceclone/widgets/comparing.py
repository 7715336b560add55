"""Blind comparison: which of two checkpoints or vocoders sounds better to somebody who does not know which is which.

Every verdict is a row of ``samples/comparisons.csv``, written at once.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import VoiceCloneError
from ..files import atomic_write
from .panel import VOICE_LOCK, table
from .players import sound
from .speaking import Candidate, Cast, candidates
from .views import LivePanel

if TYPE_CHECKING:
    from ..voice import Voice

COMPARISONS_FILE = "comparisons.csv"  # in samples/
VERDICTS = ("first", "second", "same")


@dataclass(frozen=True)
class Comparison:
    """One verdict."""

    when: str  # ISO 8601
    text: str  # what both said
    first: str  # who was heard first: run, checkpoint and vocoder
    second: str
    verdict: str  # first, second or same


@dataclass(frozen=True)
class Tally:
    """All verdicts on two candidates."""

    one: str
    other: str
    for_one: int
    for_other: int
    same: int

    @property
    def said(self) -> str:
        """What the verdicts tell so far: whether they could be chance, by a sign test."""
        from scipy.stats import binomtest

        decided = self.for_one + self.for_other
        if decided < 5:
            return "Too few to tell: go on to ten or more."
        chance = binomtest(self.for_one, decided).pvalue
        better = self.one if self.for_one > self.for_other else self.other
        if chance < 0.05:
            return f"You prefer {better}: by chance alone a result as clear comes {100 * chance:.1f} times in 100."
        return f"It could be chance: a result as clear comes {100 * chance:.0f} times in 100."


def comparisons(voice: Voice) -> tuple[Comparison, ...]:
    """The verdicts in ``samples/comparisons.csv``, oldest first.

    Raises
    ------
    VoiceCloneError
        If the file is not such a table.
    """
    path = voice.samples_dir / COMPARISONS_FILE
    if not path.exists():
        return ()
    names = [field.name for field in fields(Comparison)]
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    if any(set(names) - {name for name, value in row.items() if value is not None} for row in rows):
        expected = ", ".join(names)
        raise VoiceCloneError(f"{path} is no table of comparisons: expected the columns {expected}. Move it away.")
    return tuple(Comparison(**{name: row[name] for name in names}) for row in rows)


def keep(voice: Voice, comparison: Comparison) -> None:
    """Add a verdict to ``samples/comparisons.csv``."""
    with VOICE_LOCK:
        rows = [*comparisons(voice), comparison]
        with atomic_write(voice.samples_dir / COMPARISONS_FILE, "w") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Comparison)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, rows))


def tallies(rows: Sequence[Comparison]) -> tuple[Tally, ...]:
    """Verdicts counted for each pair, whichever of the two was heard first."""
    counts: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        one, other = sorted((row.first, row.second))
        count = counts.setdefault((one, other), [0, 0, 0])
        preferred = {"first": row.first, "second": row.second}.get(row.verdict)
        count[2 if preferred is None else int(preferred == other)] += 1
    return tuple(Tally(one, other, *count) for (one, other), count in counts.items())


class BlindTest(LivePanel):
    """Plays pairs of the same sentence, said by two candidates in a hidden order, and counts which one is preferred.

    Parameters
    ----------
    voice
        A trained voice.
    sentences
        What is said, one after the other; best ones it was not trained on.
    run
        The training whose checkpoints are compared; all of them when empty.
    seed
        Of the order in which the two are heard; by default another one each time.
    """

    script = "comparing.js"

    def __init__(self, voice: Voice, sentences: Sequence[str], *, run: str = "", seed: int | None = None) -> None:
        super().__init__()
        self.voice, self.sentences = voice, sentences
        self.candidates = candidates(voice, run=run)
        self._cast = Cast()
        self._random = random.Random(seed)  # noqa: S311 - nobody is to be kept from guessing but by not knowing
        self._trial: tuple[int, str, Candidate, Candidate] | None = None
        self._count = len(comparisons(voice))

    def _tally(self) -> list[dict[str, Any]]:
        return [asdict(tally) | {"said": tally.said} for tally in tallies(comparisons(self.voice))]

    def html(self) -> str:
        rows = [(t.one, t.for_one, t.same, t.for_other, t.other, t.said) for t in tallies(comparisons(self.voice))]
        return table(rows, heading=("", "preferred", "no difference", "preferred", "", ""))._repr_html_()

    def text(self) -> str:
        return f"{len(comparisons(self.voice))} blind comparisons of {self.voice.name} (more need a live kernel)."

    # The live view ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        names = [str(candidate) for candidate in self.candidates]
        pair = [names[0], names[min(1, len(names) - 1)]] if names else []
        return {"candidates": [[name, name] for name in names], "pair": pair, "tally": self._tally()}

    def on_pair(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Let both say the next sentence."""
        known = {str(candidate): candidate for candidate in self.candidates}
        if not known:
            raise VoiceCloneError(f"{self.voice.name} has no checkpoint yet: train it first (notebook 05).")
        pair = [known[name] for name in message["pair"]]
        if pair[0] == pair[1]:
            raise VoiceCloneError("A and B are the same: choose two different ones to compare.")
        text = self.sentences[self._count % len(self.sentences)]
        self._random.shuffle(pair)
        self._trial = (self._count, text, *pair)
        waves = []
        for candidate in pair:
            utterance = self._cast.synthesizer(self.voice, candidate).say(text)
            waves.append(sound(utterance.wave, utterance.sample_rate))
        return {"trial": self._count + 1, "text": text, "buffers": waves}

    def on_verdict(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Which of the two was better; now it may be known who they were."""
        if self._trial is None or message["trial"] != self._trial[0] + 1 or message["verdict"] not in VERDICTS:
            raise VoiceCloneError("This pair has been judged already: play another one.")
        number, text, first, second = self._trial
        when = datetime.now().astimezone().isoformat(timespec="seconds")
        keep(self.voice, Comparison(when, text, str(first), str(second), message["verdict"]))
        self._trial, self._count = None, number + 1
        self.view.state["tally"] = self._tally()
        return {"revealed": f"The first was {first}, the second {second}.", "tally": self.view.state["tally"]}
