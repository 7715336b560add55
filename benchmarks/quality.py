"""How good clones are: one voice, trained from the base, beside its natural clips and what could be had without.

Run it: ``python benchmarks/quality.py VOICE [--minutes 8] [--clips 25] [--natural FOLDER]``

VOICE is a voice folder whose clips are cleaned (notebooks 00 to 04, or ``python -m voiceclone run VOICE --to 04``).
Everything is done on a copy, so the voice keeps its own runs. The rows of the table:

- natural clips: the voice's own, each compared with the others;
- natural, same sentences: recordings of the sentences that the clone says, where ``--natural`` has them
  (``001.wav`` is the first sentence);
- vocoder alone: the natural clips as log-mels and back, the best that this vocoder allows;
- clone: adapted from the base for the given minutes;
- without base: the same small model with random weights, trained for the same minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from voiceclone import Voice
from voiceclone.audio import load, log_mel
from voiceclone.evaluate import SENTENCES, Measures, evaluate, measure
from voiceclone.speaker import embed, mean_embedding
from voiceclone.synthesize import Synthesizer
from voiceclone.train import TrainConfig, train
from voiceclone.vocoders import load_vocoder, vocode

MORE = Path(__file__).parent / "sentences.txt"
HEADING = ("", "word error rate", "likeness", "opinion score", "failures", "seconds for one of speech")


def sentences(count: int) -> tuple[str, ...]:
    """Sentences that no prompt and no preview has."""
    return (*SENTENCES, *MORE.read_text(encoding="utf-8").splitlines())[:count]


def with_clips(voice: Voice, count: int | None, folder: Path) -> Voice:
    """A copy of the voice without its runs, of which only the first `count` clips are used."""
    path = folder / voice.path.name
    shutil.copytree(voice.path, path, ignore=shutil.ignore_patterns("runs", "samples", "exports"))
    copy = Voice.open(path)
    if count is not None:
        copy.update(*(replace(clip, state="rejected") for clip in copy.usable()[count:]))
    return copy


def trained(voice: Voice, minutes: float, start: str | None) -> Synthesizer:
    """The voice after some minutes of training."""
    run = "clone" if start is None else start
    for step in train(voice, TrainConfig(minutes=minutes, start=start, run=run)):
        if step.validation:
            print(f"{run}: step {step.step}, {step.seconds:.0f} s, {step.validation}", flush=True)
    return Synthesizer.open(voice, run=run)


def rows(voice: Voice, options: argparse.Namespace) -> dict[str, Measures]:
    """Measure everything."""
    texts, engine = sentences(options.sentences), options.engine
    clone = evaluate(trained(voice, options.minutes, None), texts, engine=engine)
    table = {"natural clips": clone.natural}
    clips = [(clip.transcript, *load(voice.clip_path(clip.id))) for clip in voice.usable()]
    speaker = mean_embedding([embed(wave, rate) for _, wave, rate in clips])
    if options.natural:
        found = [(text, options.natural / f"{number:03d}.wav") for number, text in enumerate(texts, 1)]
        recordings = [(text, *load(path)) for text, path in found if path.exists()]
        table["natural, same sentences"] = measure(recordings, speaker, engine=engine)
    vocoder = load_vocoder("hifigan")
    copies = [(text, vocode(vocoder, log_mel(wave)[0]), rate) for text, wave, rate in clips[:25]]
    table["vocoder alone"] = measure(copies, speaker, engine=engine)
    table["clone"] = clone.voice
    if options.baseline:
        without = trained(voice, options.minutes, "scratch")
        table["without base"] = evaluate(without, texts, engine=engine).voice
    return table


def as_markdown(table: dict[str, Measures]) -> str:
    """The table, a line a row."""
    lines = [HEADING, ("---",) * len(HEADING)]
    for name, m in table.items():
        speed = "" if m.real_time_factor is None else f"{m.real_time_factor:.2f}"
        failures = "" if m.real_time_factor is None else f"{m.failures} of {m.count}"
        lines.append((name, f"{m.word_error_rate:.3f}", f"{m.likeness:.3f}", f"{m.opinion_score:.2f}", failures, speed))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Train, measure, print, and write the table if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, for each of the two")
    parser.add_argument("--clips", type=int, help="use only so many clips")
    parser.add_argument("--sentences", type=int, default=100, help="how many are said, at most 100")
    parser.add_argument("--natural", type=Path, help="folder with recordings of the sentences, 001.wav and so on")
    parser.add_argument("--engine", default="whisper", help="who listens")
    parser.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True, help="train without base")
    parser.add_argument("--out", type=Path, help="file without ending for the table (.md) and its values (.json)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        voice = with_clips(Voice.open(options.voice), options.clips, Path(folder))
        table = rows(voice, options)
    print(as_markdown(table))
    if options.out:
        options.out.with_suffix(".md").write_text(as_markdown(table), encoding="utf-8")
        values = {name: asdict(measures) for name, measures in table.items()}
        options.out.with_suffix(".json").write_text(json.dumps(values, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
