"""How fast a corpus is prepared, by how many clips it has: ``python benchmarks/prepare.py CORPUS [--engine ray]``.

Where the corpus has fewer clips than are asked for, its clips are there several times under other names.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import cycle
from pathlib import Path

from voiceclone.mapping import ENGINES
from voiceclone.prepare import Row, prepare, read_corpus


def corpus_of(rows: list[Row], count: int, folder: Path) -> Path:
    """A corpus of so many clips, made of links to others."""
    (folder / "wavs").mkdir(parents=True)
    lines = []
    for number, row in zip(range(count), cycle(rows), strict=False):
        (folder / "wavs" / f"{number:05d}{row.path.suffix}").symlink_to(row.path.absolute())
        lines.append(f"{number:05d}|{row.speaker}|{row.text}\n")
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return folder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[25, 250, 2500])
    parser.add_argument("--engine", choices=ENGINES, default="processes")
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    rows = read_corpus(options.corpus)
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            corpus = corpus_of(rows, count, Path(folder) / "corpus")
            for what in ("new", "again"):
                began = time.perf_counter()
                prepared = prepare(corpus, engine=options.engine, workers=options.workers)
                spent = time.perf_counter() - began
                print(f"{count} clips {what}: {spent:.1f} s, {count / spent:.2f} clips a second, "
                      f"{len(prepared.problems)} cannot be used", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
