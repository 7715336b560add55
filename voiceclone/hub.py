"""The Hugging Face hub: whether it can be reached (its own library tries for a minute), and files from it."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from .errors import CheckpointError, UnavailableError, VoiceCloneError
from .files import sha256_of

PATIENCE = 3.0  # s until the hub counts as out of reach
WEIGHTS = (".pt", ".pth", ".ckpt", ".tar", ".safetensors")  # endings of files of weights


def hub_answers(patience: float = PATIENCE) -> bool:
    """Whether the hub says anything within some seconds; a slow name server counts too, so a thread is asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=patience).close()
        except urllib.error.HTTPError:
            answers.append(True)  # a refusal is an answer
        except (OSError, ValueError):
            return
        else:
            answers.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return bool(answers)


def fetch_from_hub(place: str, expected: str = "") -> Path:
    """Fetch a file through the hub's library, which resumes, verifies and keeps it.

    Parameters
    ----------
    place : str
        ``owner/name[@revision][/file]``; without the file the repository must have one file of weights alone.
    expected : str
        What its SHA-256 must be; empty where nobody says.

    Raises
    ------
    UnavailableError
        If the hub does not have or give it, or can't be reached, and it is not on this machine.
    CheckpointError
        If it is another file than expected.
    VoiceCloneError
        If it is not clear which file is meant.
    """
    from huggingface_hub import errors, hf_hub_download

    found = re.fullmatch(r"([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?(?:/(.+))?", place)
    if not found:
        raise VoiceCloneError(f"hf://{place} names no file of the hub: expected hf://owner/name/file.")
    repository, revision, file = found.groups()
    here = not hub_answers()  # its library would try for a minute; what it has kept it gives without asking
    try:
        file = file or _only_weights(_files_of(repository, revision, here), repository)
        path = Path(hf_hub_download(repository, file, revision=revision, local_files_only=here))
    except errors.GatedRepoError as error:
        raise UnavailableError(
            f"{repository} on the Hugging Face hub asks to be let in: accept its terms there, then run: hf auth login"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        if not isinstance(error, errors.LocalEntryNotFoundError):
            raise UnavailableError(
                f"The Hugging Face hub has no {place}, and there is no such file here ({cause_of(error)})."
            ) from error
        raise _hub_is_away(place, error) from error
    except (OSError, getattr(errors, "HTTPError", OSError)) as error:
        raise _hub_is_away(place, error) from error
    # The hub keeps a large file under its SHA-256, so its name says what it should be.
    stated = path.resolve().name if re.fullmatch("[0-9a-f]{64}", path.resolve().name) else ""
    if (expected or stated) and (is_now := sha256_of(path)) != (expected or stated):
        raise CheckpointError(
            f"{place} has SHA-256 {is_now}, expected {expected or stated}. Delete {path.resolve()} to fetch it again, "
            "or correct what is expected."
        )
    return path


def _files_of(repository: str, revision: str | None, here: bool) -> list[str]:
    """Names of a repository's files on the hub; `here`: of those that are kept on this machine."""
    from huggingface_hub import HfApi, errors, snapshot_download

    if not here:
        return HfApi().list_repo_files(repository, revision=revision)
    # "*" asks for no file, so that it does not matter which are missing.
    folder = Path(snapshot_download(repository, revision=revision, local_files_only=True, ignore_patterns="*"))
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if not any(name.endswith(WEIGHTS) for name in files):
        raise errors.LocalEntryNotFoundError("none of the files kept here are weights")
    return files


def _hub_is_away(place: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"{place} is not on this machine and the Hugging Face hub can't be reached ({cause_of(error)}). Try again "
        "later, or fetch it with a browser and give the file's path."
    )


def _only_weights(files: Sequence[str], repository: str) -> str:
    weights = [name for name in files if name.endswith(WEIGHTS)]
    if len(weights) != 1:
        some = ", ".join((weights or files)[:8])
        raise VoiceCloneError(
            f"{repository} has {len(weights)} files of weights ({some}). Say which: hf://{repository}/FILE"
        )
    return weights[0]


def cause_of(error: Exception) -> str:
    """The innermost cause of an error, in a few words."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
