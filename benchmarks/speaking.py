"""How fast a trained voice speaks: text to wave, the mel's share of it, and the first sound of a long text.

Run it: ``python benchmarks/speaking.py VOICE``
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from voiceclone import Voice
from voiceclone.evaluate import SENTENCES
from voiceclone.synthesize import Synthesizer
from voiceclone.text import to_ids

MORE = Path(__file__).parent / "sentences.txt"
LONG = 300  # words


def main() -> None:
    """Measure and print."""
    synthesizer = Synthesizer.open(Voice.open(sys.argv[1]))
    synthesizer.say(SENTENCES[0])  # warms up
    said = [synthesizer.say(text) for text in SENTENCES]
    seconds = sum(utterance.duration for utterance in said)
    spent = sum(utterance.seconds_spent for utterance in said)
    began = time.perf_counter()
    for text in SENTENCES:
        synthesizer.attempts([to_ids(text)], takes=3, seed=0)
    mel = time.perf_counter() - began
    print(f"{len(said)} sentences, {seconds:.0f} s of speech: {spent / seconds:.2f} s for one of speech,")
    print(f"of which mel spectrograms (best of 3) {mel / seconds:.3f} s")
    words = " ".join((*SENTENCES, *MORE.read_text(encoding="utf-8").splitlines())).split()[:LONG]
    began = time.perf_counter()
    parts = synthesizer.stream(" ".join(words))
    problems = [*next(parts).problems]
    first = time.perf_counter() - began
    for part in parts:
        problems += part.problems
    print(f"{LONG} words: first sound after {first:.2f} s, all after {time.perf_counter() - began:.1f} s")
    print("problems: " + ("; ".join(problems) or "none"))


if __name__ == "__main__":
    main()
