"""How fast the light stages are: importing the package, and cleaning the sample voice's takes.

Run it: ``python benchmarks/stages.py``
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from voiceclone import Voice
from voiceclone.clean import clean
from voiceclone.record import import_takes

TAKES = Path(__file__).parent.parent / "data" / "sample_voice" / "takes"
IMPORT = "import time; t = time.perf_counter(); import voiceclone; print(time.perf_counter() - t)"


def main() -> None:
    """Measure and print."""
    times = [float(subprocess.check_output([sys.executable, "-c", IMPORT])) for _ in range(5)]
    print(f"import voiceclone: {statistics.median(times):.4f} s (median of 5)")
    with tempfile.TemporaryDirectory() as folder:
        voice = Voice.create("sample", root=folder, consent="the benchmark")
        reports = {report.take: report.seconds for report in import_takes(voice, TAKES)}
        seconds = sum(reports[clip.take] for clip in voice.clips)
        began = time.perf_counter()
        clean(voice)
        spent = time.perf_counter() - began
        print(f"cleaning: {seconds:.0f} s of takes in {spent:.2f} s, {seconds / spent:.0f} times real time")


if __name__ == "__main__":
    main()
