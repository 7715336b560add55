"""Reading weights that anyone may have made: no code in them is run, and a wrong file is named for what it is."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a file that `torch.save` wrote, refusing code, and say what a wrong file is.

    Raises
    ------
    CheckpointError
        If the file is missing, torn, a web page, or needs code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    with path.open("rb") as file:
        head = file.read(512)
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{path} is a web page, not a checkpoint: the download failed. Download it again.")
    if head.startswith(b"PK"):
        _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} cannot be read as weights: it is another kind of file, or would run code when opened, and is "
            f"refused ({_first_line(error)})."
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as weights: it is torn or another kind of file ({_first_line(error)}). "
            "Use an older one, or get it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a dict of weights.")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_archive(path: Path) -> None:
    """Compare every part of the file with its checksum; torch itself does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        torn = str(error)
    if torn:
        raise CheckpointError(f"{path} cannot be read: it is torn ({torn}). Use an older one, or get it again.")
