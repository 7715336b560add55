"""The log of a training: a file of one JSON record a step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .files import atomic_write


class Log:
    """A file of one JSON record a step, to which a crash does no more than cut short its last line."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, record: dict[str, Any]) -> None:
        """Add a step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All records but one that was cut short; none where there is no log."""
        return [json.loads(line) for line in self._lines() if line.endswith("}\n")]

    def cut(self, step: int) -> None:
        """Drop what is said of later steps than this: they will be taken again."""
        lines = self._lines()
        kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]
        if kept != lines:
            with atomic_write(self.path, "w") as file:
                file.writelines(kept)

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
