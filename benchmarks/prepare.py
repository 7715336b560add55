"""How fast a corpus is prepared, by how many clips it has: ``python benchmarks/prepare.py CORPUS [--engine ray]``.

Where the corpus has fewer clips than are asked for, its clips are there several times under other names, and each is
worked on. A second run over the same clips shows what it costs to find that all is done.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import cycle
from pathlib import Path

from voiceclone.mapping import ENGINES
from voiceclone.prepare import Row, prepare, read_corpus

COUNTS = (25, 250, 2500)  # clips


def corpus_of(rows: list[Row], count: int, folder: Path) -> Path:
    """A corpus of so many clips, made of links to others."""
    (folder / "wavs").mkdir(parents=True)
    lines = []
    for number, row in zip(range(count), cycle(rows), strict=False):
        (folder / "wavs" / f"{number:05d}{row.path.suffix}").symlink_to(row.path.absolute())
        lines.append(f"{number:05d}|{row.speaker}|{row.text}\n")
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return folder


def measured(corpus: Path, engine: str, workers: int | None) -> tuple[float, int]:
    """Seconds that it takes, and how many of its clips were worked on."""
    began = time.perf_counter()
    prepared = prepare(corpus, engine=engine, workers=workers)
    return time.perf_counter() - began, prepared.made


def main() -> None:
    """Measure and print a table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="clips")
    parser.add_argument("--engine", choices=ENGINES, default="processes")
    parser.add_argument("--workers", type=int, help="clips prepared at once (default: one a core)")
    options = parser.parse_args()
    rows = read_corpus(options.corpus)
    print("| clips | s | clips a second | again, s |\n| --- | --- | --- | --- |", flush=True)
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            corpus = corpus_of(rows, count, Path(folder) / "corpus")
            (spent, made), (again, nothing) = (measured(corpus, options.engine, options.workers) for _ in range(2))
        if (made, nothing) != (count, 0):
            raise SystemExit(f"{made} and then {nothing} of {count} clips were worked on: expected all, then none.")
        print(f"| {count:,} | {spent:.1f} | {count / spent:.2f} | {again:.1f} |", flush=True)


if __name__ == "__main__":
    main()
