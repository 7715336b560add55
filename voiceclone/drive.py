"""Keeping a training run on a drive that is slow, fills up or goes away.

On Colab the voice lies on Google Drive, which outlives the machine but fails now and then. So a run is written to the
machine's own disk first, and a thread copies each whole file to the Drive: under another name, read back and compared,
then renamed. Whatever the Drive does, training goes on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .errors import VoiceCloneError
from .files import file_hash

DRIVE = Path("/content/drive")  # where Colab mounts the user's Google Drive
WORK = Path("/content/voiceclone-work")  # on the machine's own disk, which goes when the machine goes
CHUNK = 2**20  # bytes copied at a time
FIRST_WAIT, LONGEST_WAIT = 2.0, 60.0  # s between two tries
READ_TRIES = 4
PATIENCE = 180.0  # s that the end of a training waits for the last copies
CONFIG = "config.json"
VOCODER, WAVEGLOW = "vocoder", "waveglow"  # folders of HiFi-GAN and WaveGlow tuned to a run, below the run's
_NUMBERED = re.compile(r"step-(\d+)\.pt")
_AT_WORK: dict[tuple[Path, Path], Keeper] = {}  # the last of each two folders, which may still copy after its session


def working_folder(run: Path) -> Path:
    """Where a run is written first: on this machine if the run's folder is on Google Drive, else that folder itself."""
    run = run.absolute()
    return WORK / run.relative_to(DRIVE) if run.is_relative_to(DRIVE) else run


class Keeper:
    """Brings a run's files to where they last. Nothing there is deleted before everything newer is there and whole.

    Parameters
    ----------
    lasting : Path
        The run's folder in the voice folder.
    work : Path or None
        Where the run is written; `working_folder` unless given. The same folder needs no keeping.
    patience : float or None
        Seconds that `close` waits for the last copies; `PATIENCE` unless given.
    """

    def __init__(self, lasting: Path, work: Path | None = None, *, patience: float | None = None) -> None:
        self.lasting = lasting.absolute()
        self.work = (work or working_folder(lasting)).absolute()
        self.patience = PATIENCE if patience is None else patience
        self.first_wait = FIRST_WAIT
        self._to_copy: dict[str, None] = {}  # names, in order
        self._to_drop: dict[str, None] = {}
        self._notes: list[str] = []
        self._doing: str | None = None
        self._failing = False
        self._closing = False
        self._given_up = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        if before := _AT_WORK.get((self.work, self.lasting)):
            before._give_up()

    @property
    def apart(self) -> bool:
        """Whether the run is written elsewhere than where it lasts."""
        return self.work != self.lasting

    def fetch(self) -> None:
        """Bring both places to the state of the one whose checkpoint is newer, as far as files are missing or old.

        Raises
        ------
        VoiceCloneError
            If the run cannot be read though it is there: to begin anew would lose it.
        """
        if not self.apart:
            return
        for attempt in range(READ_TRIES):
            try:
                self._fetch()
                return
            except OSError as error:
                if attempt == READ_TRIES - 1:
                    raise VoiceCloneError(
                        f"{self.lasting} cannot be brought to {self.work} ({error.strerror or error}). Nothing was "
                        "changed there; run the training again when the drive can be read."
                    ) from error
            time.sleep(self.first_wait * 2**attempt)

    def _fetch(self) -> None:
        behind = _newest(self.work) < _newest(self.lasting)
        for name in self._own_files(self.lasting):
            if behind or not (self.work / name).exists():
                _copy_whole(self.lasting / name, self.work / name)
        if not behind:  # the last session on this machine may have ended before everything was copied
            names = (n for n in self._own_files(self.work) if _differ(self.work / n, self.lasting / n))
            self.keep(*(self.work / name for name in names))

    def keep(self, *paths: Path) -> None:
        """Copy files, which have been written whole, as soon as may be."""
        self._order(self._to_copy, self._to_drop, paths)

    def drop(self, *paths: Path) -> None:
        """Delete files of the run: here at once, there when everything newer is there."""
        for path in paths:
            path.unlink(missing_ok=True)
        self._order(self._to_drop, self._to_copy, paths)

    def forget(self, *patterns: str) -> None:
        """Delete whatever matches, in both places: the run begins anew."""
        for folder in {self.work, self.lasting}:
            for pattern in patterns:
                self.drop(*(self.work / path.relative_to(folder) for path in folder.glob(pattern)))

    def notes(self) -> tuple[str, ...]:
        """What the user should know since this was last asked."""
        with self._changed:
            said, self._notes = tuple(self._notes), []
        return said

    def close(self) -> None:
        """Wait until everything is there, but no longer than patience lasts; warn of what is not."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self.patience)
        with self._changed:
            left = dict.fromkeys([*([self._doing] if self._doing else []), *self._to_copy])
        if left:
            warnings.warn(
                f"{', '.join(left)} could not be copied to {self.lasting} yet. They are whole in {self.work}, which "
                "goes with this machine: run the training again soon, and it copies them.",
                stacklevel=2,
            )

    # The thread ---------------------------------------------------------------------------------------------------

    def _order(self, wanted: dict[str, None], unwanted: dict[str, None], paths: tuple[Path, ...]) -> None:
        if not self.apart:
            return
        with self._changed:
            for path in paths:
                name = path.absolute().relative_to(self.work).as_posix()
                unwanted.pop(name, None)
                wanted[name] = None
            if self._thread is None and wanted:
                self._thread = threading.Thread(target=self._work_off, name="keeper", daemon=True)
                _AT_WORK[self.work, self.lasting] = self
                self._thread.start()
            self._changed.notify_all()

    def _give_up(self) -> None:
        """Leave the rest to the session that follows: what was ordered here may undo what that one does."""
        with self._changed:
            self._closing = self._given_up = True
            self._to_copy.clear()
            self._to_drop.clear()
            self._changed.notify_all()
        self._thread.join(self.patience)

    def _work_off(self) -> None:
        wait = self.first_wait
        while task := self._next():
            name, names, work = task
            try:
                work(name)
            except OSError as error:
                self._put_off(name, names, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, wait)
                time.sleep(min(wait, 1.0) if self._closing else 0.0)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                wait = self.first_wait
                self._recover()

    def _next(self) -> tuple[str, dict[str, None], Callable[[str], None]] | None:
        """What is to be done now.

        Copies come first, so that nothing is dropped before what is newer has arrived, and of them the configuration
        last: it says what was spent, and must not be there without what that was spent on.
        """
        with self._changed:
            self._doing = None
            self._changed.wait_for(lambda: self._to_copy or self._to_drop or self._closing)
            for names, work in ((self._to_copy, self._copy), (self._to_drop, self._remove)):
                if names:
                    self._doing = next((name for name in names if name != CONFIG), CONFIG)
                    del names[self._doing]  # at once, so that what is written meanwhile is copied again
                    return self._doing, names, work
        return None

    def _recover(self) -> None:
        with self._changed:
            if not self._to_copy and self._failing:
                self._failing = False
                self._notes.append(f"{self.lasting} can be written again; everything is kept there.")

    def _put_off(self, name: str, names: dict[str, None], error: OSError) -> None:
        """Say once that it does not work, and try the others first."""
        with self._changed:
            ordered = name in self._to_copy or name in self._to_drop  # anew, meanwhile
            if not ordered and not self._given_up:
                names[name] = None
            if not self._failing:
                self._failing = True
                self._notes.append(
                    f"{self.lasting} cannot be written at the moment ({error.strerror or error}). Training goes on; "
                    f"its checkpoints lie in {self.work} and are copied as soon as that works."
                )
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self._make_room()

    def _make_room(self) -> None:
        """Drop what is to be dropped although something newer waits, but never the last whole checkpoint there."""
        with self._changed:
            outdated = list(self._to_drop)
        with suppress(OSError):
            for name in outdated:
                numbered = [n for n in self._own_files(self.lasting) if _NUMBERED.fullmatch(Path(n).name)]
                if numbered != [name]:
                    self._remove(name)
                    with self._changed:
                        self._to_drop.pop(name, None)

    # Files --------------------------------------------------------------------------------------------------------

    def _own_files(self, folder: Path) -> list[str]:
        """Those of the run itself: a vocoder that was tuned to it has a keeper of its own, and steps of its own."""
        return [name for name in _files(folder) if not name.startswith((f"{VOCODER}/", f"{WAVEGLOW}/"))]

    def _copy(self, name: str) -> None:
        if not (voice := self.lasting.parents[1]).is_dir():  # a folder made where a drive was would hide the drive
            raise OSError(errno.ENODEV, f"{voice} is not there")
        try:
            _copy_whole(self.work / name, self.lasting / name)
        except FileNotFoundError:  # a checkpoint may have been followed by newer ones, and dropped here, meanwhile
            if (self.work / name).exists():
                raise

    def _remove(self, name: str) -> None:
        (self.lasting / name).unlink(missing_ok=True)


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a file under another name, read it back, compare, and only then give it its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as original, part.open("wb") as copy:
            written = hashlib.sha256()
            for chunk in iter(lambda: original.read(CHUNK), b""):
                copy.write(chunk)
                written.update(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        with part.open("rb") as copy:
            found = hashlib.file_digest(copy, "sha256")
        if found.digest() != written.digest():
            raise OSError(errno.EIO, f"{source.name} was read back otherwise than it was written")
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _files(folder: Path) -> list[str]:
    """Names of the files below a folder, but for those that are being written."""
    paths = (path for path in sorted(folder.rglob("*")) if not path.name.startswith(".") and path.is_file())
    return [path.relative_to(folder).as_posix() for path in paths]


def _differ(one: Path, other: Path) -> bool:
    """Whether two files are not the same; of the checkpoints to go on from the name says what is in them."""
    if not other.exists() or one.stat().st_size != other.stat().st_size:
        return True
    return not _NUMBERED.fullmatch(one.name) and file_hash(one) != file_hash(other)


def _newest(run: Path) -> int:
    """Step of the newest checkpoint in a run's folder, by its name; -1 without one."""
    matches = (_NUMBERED.fullmatch(path.name) for path in (run / "checkpoints").glob("step-*.pt"))
    return max((int(match[1]) for match in matches if match), default=-1)
