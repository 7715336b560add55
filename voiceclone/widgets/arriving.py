"""A take on its way from a page: pieces of sound on disk as they come, so that a page that goes takes little with it.

A piece is numbered and carries its checksum. Pieces are appended in their order to one file of raw samples whose name
says what it is, so the file is at every moment the beginning of the take, and a kernel that starts anew finds it.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import AudioError

LARGEST_PIECE = 96 * 1024  # bytes: Colab's own uploads stay near it, and larger messages have been seen to be lost
LONGEST_SECONDS = 600.0
RATES = (8_000, 192_000)  # Hz, of microphones
FULL_SCALE = 32_768  # of 16-bit samples
_NAME = re.compile(r"\.(\d{4})-(\d+)-([0-9a-f]{8,32})\.arriving")


@dataclass
class Arrival:
    """One take on its way in.

    Parameters
    ----------
    folder : Path
        Where its file is kept until it is whole.
    clip_id : str
        "0001" for the first prompt.
    rate : int
        Hz.
    take : str
        What the page calls it: 8 to 32 hexadecimal digits.

    Raises
    ------
    AudioError
        If a page says what no recorder says.
    """

    folder: Path
    clip_id: str
    rate: int
    take: str
    page: str = ""  # which page sends it
    pieces: int = field(default=0, init=False)  # so many have come, without a gap
    touched: float = field(default=0.0, init=False)  # monotonic seconds, of the last piece

    def __post_init__(self) -> None:
        name = f".{self.clip_id}-{self.rate}-{self.take}.arriving"
        if not _NAME.fullmatch(name) or not RATES[0] <= self.rate <= RATES[1]:
            raise AudioError(f"No take can be called {name!r}: this page is not of this recorder. Run the cell again.")
        self.file = self.folder / name
        self.touched = time.monotonic()

    def begin(self) -> None:
        """Start an empty file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_bytes(b"")
        self.pieces = 0

    def add(self, number: int, data: bytes, checksum: int) -> bool:
        """Append piece `number`, from 0; False when it has to be sent again, or one before it has to come first."""
        self.touched = time.monotonic()
        if number < self.pieces:
            return True  # sent twice
        if number > self.pieces or zlib.crc32(data) != checksum or len(data) % 2:
            return False
        if len(data) > LARGEST_PIECE or self.samples + len(data) // 2 > LONGEST_SECONDS * self.rate:
            raise AudioError(
                f"This take is longer than {LONGEST_SECONDS / 60:.0f} minutes: record one sentence at a time."
            )
        with self.file.open("ab") as file:
            file.write(data)
        self.pieces += 1
        return True

    @property
    def samples(self) -> int:
        """How many samples have come."""
        return self.file.stat().st_size // 2

    @property
    def seconds(self) -> float:
        """How much sound has come."""
        return self.samples / self.rate

    def wave(self) -> np.ndarray:
        """What has come: (samples,), full scale 1."""
        data = self.file.read_bytes()
        return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / FULL_SCALE

    def discard(self) -> None:
        """Remove the file: the take is kept elsewhere, or nobody wants it."""
        self.file.unlink(missing_ok=True)


def left_behind(folder: Path) -> Iterator[Arrival]:
    """Takes that never became whole, of this kernel or of one before it."""
    for file in sorted(folder.glob(".*.arriving")):
        if named := _NAME.fullmatch(file.name):
            yield Arrival(folder, named[1], int(named[2]), named[3])
