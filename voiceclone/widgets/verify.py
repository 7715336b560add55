"""Verified takes: what a new recording says is heard at once, and compared with what was to be read.

Listening takes a second or two, so a `Listener` does it on a thread of its own, and the next take can begin.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..check import TakeReport
from ..errors import VoiceCloneError
from ..transcribe import agree, load_transcriber, word_differences

if TYPE_CHECKING:
    from ..ears import Transcriber

WHY = {  # it matters, by kind of problem
    "clipped": "Cut-off peaks crackle, and the voice would learn to crackle.",
    "quiet": "Making it louder later lifts the noise of the room just as much.",
    "loud": "The strong vowels have no room left and are about to be cut off.",
    "noisy": "The voice would learn the hiss of the room between the words.",
    "silent": "There is nothing in it to learn from.",
    "empty": "There is nothing in it to learn from.",
    "short": "A voice learns which sound belongs to which letter: with words missing it learns wrong ones.",
    "long": "Whatever else was said would be learnt as a part of this sentence.",
    "rate": "The high sounds, s and f, are missing.",
}
WRONG_WORDS = "A voice learns which sound belongs to which letter: a wrong word teaches it wrong ones."


@dataclass(frozen=True)
class Verdict:
    """What is known of a take: in a word for the colour, in lines for the person."""

    state: str  # "checked" (nobody has listened yet), "good", "doubtful" (a look is worth it) or "bad" (retake it)
    findings: tuple[tuple[str, str], ...] = ()  # what was found, and why it matters
    words: tuple[tuple[str, str, str], ...] = ()  # kind, in the prompt, heard; see `word_differences`


def judge(report: TakeReport) -> Verdict:
    """Judge a take by its levels and length alone."""
    problems = {problem.kind: problem.message for problem in report.problems}
    if "clipped" in problems:
        problems.pop("loud", None)  # the same cause and the same remedy
    findings = tuple((_sentence(message), WHY.get(kind, "")) for kind, message in problems.items())
    return Verdict("checked" if report.ok else "bad", findings)


def judge_words(before: Verdict, prompt: str, heard: str, wave: np.ndarray, sample_rate: int) -> Verdict:
    """Judge a take by what was heard in it too.

    Engines mishear a word now and then: where few words differ and the sounds of the prompt fit the take, the take is
    good.

    Parameters
    ----------
    before : Verdict
        Of `judge`.
    prompt, heard : str
        What was to be read, and what the engine wrote.
    wave : np.ndarray, shape (samples,)
        The take.
    sample_rate : int
        Hz.
    """
    words = tuple((w.kind, w.reference, w.hypothesis) for w in word_differences(prompt, heard))
    if all(kind == "same" for kind, *_ in words):
        state = "good" if before.state == "checked" else before.state
        return Verdict(state, before.findings, words)
    if agree(prompt, heard, wave, sample_rate):
        state = "good" if before.state == "checked" else before.state
        note = ("Some words were heard differently, but their sounds fit the sentence.", "")
        return Verdict(state, (*before.findings, note), words)
    if not any(kind == "same" for kind, *_ in words):
        return Verdict("bad", (*before.findings, ("Not one word of the sentence was heard.", WRONG_WORDS)), words)
    differ = sum(kind != "same" for kind, *_ in words)
    found = "One word differs from the sentence." if differ == 1 else f"{differ} words differ from the sentence."
    return Verdict("bad", (*before.findings, (found, WRONG_WORDS)), words)


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:] + "."


class Listener:
    """Hears takes one after the other on a thread of its own.

    Parameters
    ----------
    engine : str
        As for `load_transcriber`; it is loaded in the background when this is started.
    ready : callable
        Called with "" when the engine is loaded, else with why it is not.
    """

    def __init__(self, *, engine: str = "whisper", ready: Callable[[str], None] = lambda why_not: None) -> None:
        self._work: queue.SimpleQueue[Callable[[Transcriber | None], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=partial(self._run, engine, ready), name="listener", daemon=True)
        self._started = threading.Lock()

    def start(self) -> None:
        """Begin; the second time nothing happens."""
        if self._started.acquire(blocking=False):
            self._thread.start()

    def hear(self, wave: np.ndarray, sample_rate: int, tell: Callable[[str | None], None]) -> None:
        """Write down what is said in (samples,), soon, and call `tell` with it: None where there is no engine."""
        self.start()

        def listen(transcriber: Transcriber | None) -> None:
            tell(transcriber.hear(wave, sample_rate).text if transcriber else None)

        self._work.put(listen)

    def do(self, work: Callable[[], None]) -> None:
        """Do something else on the thread, after what was asked before."""
        self._work.put(lambda transcriber: work())

    def close(self) -> None:
        """End the thread once it has done what was asked."""
        self._work.put(None)

    def join(self) -> None:
        """Wait until the thread has ended; for those who closed it."""
        if self._started.locked():
            self._thread.join()

    def _run(self, engine: str, ready: Callable[[str], None]) -> None:
        transcriber = None
        try:
            transcriber = load_transcriber(engine)
        except VoiceCloneError as error:
            ready(str(error))
        else:
            ready("")
        while (work := self._work.get()) is not None:
            work(transcriber)
