"""A training as it is followed: stopped as a user does, and what it wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from voiceclone.train import Step
from voiceclone.voice import Voice


def stopped_after(count: int, steps: Iterator[Step]) -> list[Step]:
    """Take some steps, then stop."""
    taken = [next(steps) for _ in range(count)]
    steps.close()
    return taken


def log(voice: Voice, run: str = "main") -> list[dict[str, Any]]:
    """The records of a run's log."""
    return [json.loads(line) for line in (voice.run_dir(run) / "log.jsonl").read_text().splitlines()]


def checkpoints(voice: Voice, run: str = "main") -> list[str]:
    """Names of a run's checkpoints."""
    return sorted(path.name for path in (voice.run_dir(run) / "checkpoints").iterdir())
