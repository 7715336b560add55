"""Fetching weights that others publish: by a known name, by URL or from the Hugging Face hub.

A download that breaks off goes on where it was, also in a later session; mirrors are tried in turn; what arrives is
compared with its SHA-256, or looked at where none is known, and kept, so that it is fetched once. The hub's own
library does all this for the hub. For plain URLs none of the project's libraries resumes (pooch, which librosa brings,
begins anew).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from .errors import CheckpointError, UnavailableError, VoiceCloneError
from .files import atomic_write, sha256_of, text_hash
from .hub import cause_of, fetch_from_hub

ATTEMPTS = 3  # in a row at one mirror that bring nothing, after which the next is tried
PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
TIMEOUT = (10, 30)  # seconds to be connected, and without a byte
CHUNK = 2**15  # bytes written at once; of a connection that breaks at most as many are lost
NAME_LENGTH = 50  # letters of a URL's name that are kept, of up to 4 bytes each: with our endings 255 bytes may be used
OURS = ("lock", "record.json")  # what lies beside a download, which therefore is never called so


@dataclass(frozen=True)
class Source:
    """A file that others publish."""

    file: str  # name under which it is kept
    urls: tuple[str, ...]  # mirrors, in the order in which they are tried
    what: str
    sha256: str = ""  # empty where its publisher states none: that of the first weights that come is recorded


@dataclass(frozen=True)
class Fetched:
    """A file that is here now."""

    path: Path
    notes: tuple[str, ...] = ()  # what the user should know of it


def _drive(file_id: str) -> str:  # confirm: the button below Google's warning of large files
    return f"https://drive.usercontent.google.com/download?id={file_id}&export=download&confirm=t"


_NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/"
KNOWN = {
    "nvidia-ljspeech": Source(
        "tacotron2_statedict.pt",
        (_drive("1c5ZTuT7J08wLUoVZ2KkUs_VdZuJ86ZqA"),),
        "NVIDIA's Tacotron 2 of LJSpeech, as the README of github.com/NVIDIA/tacotron2 links it; trained on letters",
    ),
    "nvidia-ljspeech-ngc": Source(
        "nvidia_tacotron2pyt_fp32_20190306.pth",
        (f"{_NGC}tacotron2pyt_fp32/versions/1/files/nvidia_tacotron2pyt_fp32_20190306.pth",),
        "another Tacotron 2 of LJSpeech, of NVIDIA's DeepLearningExamples; trained on letters",
    ),
    "fakeyou": Source(
        "fakeyou_pretrained.pt",
        (_drive("16LHTJmtRvBNRdhNq7w9uXhcZeJ62R9dv"),),
        "the Tacotron 2 that FakeYou's training notebook starts from",
    ),
    "waveglow": Source(
        "waveglow_256channels_universal_v5.pt",
        (_drive("1rpK8CzAAirq9sWZhe9nlfvxMF1dRgFbF"),),
        "NVIDIA's universal WaveGlow, as the README of github.com/NVIDIA/waveglow links it",
    ),
}


class _NotTheFile(Exception):
    """A mirror sent something else than the file."""


# Where weights are ------------------------------------------------------------------------------------------------


def fetch(source: str | Path, *, cache: str | Path | None = None, bar: bool = True) -> Fetched:
    """Find weights wherever they are, and bring them here if need be.

    Parameters
    ----------
    source : str or Path
        One of these:

        - the path of a file or folder;
        - one of the names in `KNOWN`, such as ``"nvidia-ljspeech"``;
        - a URL, or several of the same file with spaces between them, and after the last, where it is known, its
          SHA-256: ``https://example.org/model.pt#sha256=...``;
        - a file on the Hugging Face hub, ``hf://owner/name/model.pt`` or ``hf://owner/name@revision/model.pt``; without
          the file's name, or as plain ``owner/name``, the only file of weights that the repository has.
    cache : str or Path, optional
        Where downloads of plain URLs are kept; by default `cache_folder`.
    bar : bool
        Show progress.

    Raises
    ------
    UnavailableError
        If no mirror has it, or none can be reached. What has arrived of it is kept, and gone on with next time.
    CheckpointError
        If what a mirror sends is not the file.
    VoiceCloneError
        If `source` is none of these.
    """
    if Path(source).expanduser().exists():
        return Fetched(Path(source).expanduser())
    text, _, digest = str(source).partition("#")
    digest = digest.strip().lower().removeprefix("sha256=")
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        raise VoiceCloneError(f"{digest!r} after # is no SHA-256: expected 64 hexadecimal digits.")
    if text in KNOWN:
        known = KNOWN[text]
        return download(known.urls, sha256=digest or known.sha256, name=known.file, cache=cache, bar=bar)
    if text.startswith(("http://", "https://")):
        return download(text.split(), sha256=digest, cache=cache, bar=bar)
    if text.startswith("hf://") or re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        return Fetched(fetch_from_hub(text.removeprefix("hf://"), digest))
    raise VoiceCloneError(
        f"There are no weights {str(source)!r}: it is no file here, no URL, no place on the hub (owner/name) and none "
        f"of the known names {', '.join(KNOWN)}."
    )


def is_elsewhere(source: str | Path) -> bool:
    """Whether `fetch` would have to bring it: a known name or an address that is no path here."""
    return (str(source) in KNOWN or "://" in str(source)) and not Path(source).exists()


def cache_folder() -> Path:
    """Where downloads are kept: what ``VOICECLONE_CACHE`` says, else the system's place for caches."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("VOICECLONE_CACHE") or user_cache_path("voiceclone", appauthor=False))


# Plain URLs -------------------------------------------------------------------------------------------------------


def download(
    urls: Sequence[str], *, sha256: str = "", name: str = "", cache: str | Path | None = None, bar: bool = True
) -> Fetched:
    """Fetch a file from the first of its mirrors that has it, unless it is here already.

    Parameters
    ----------
    urls : sequence of str
        Mirrors of one file. Addresses of pages on Google Drive or the hub become those of the file.
    sha256 : str
        What its SHA-256 must be. Without it what comes is looked at, whether it is a whole file of weights; the SHA-256
        of the first that is one is recorded beside it, and every later copy is held to that.
    name : str
        Under which it is kept; by default the URL's.
    cache, bar
        As for `fetch`.

    Raises
    ------
    UnavailableError, CheckpointError, VoiceCloneError
        As for `fetch`.
    """
    from filelock import FileLock

    urls = [_direct(url) for url in urls]
    folder = Path(cache or cache_folder()) / text_hash(sha256 or urls[0])
    target = folder / (name or _name_in(urls[0]))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # two notebooks, or the processes of one training, may want it at once
        recorded = _read(target.with_name("record.json")).get("sha256", "")
        expected = sha256 or recorded
        if target.is_file() and sha256_of(target) == expected:
            return Fetched(target)
        target.unlink(missing_ok=True)  # damaged since
        found = _from_mirrors(urls, target, expected, bar)
        with atomic_write(target.with_name("record.json"), "w") as file:
            json.dump({"sha256": found, "urls": urls}, file, indent=1)
    if expected:
        return Fetched(target)
    note = (
        f"No SHA-256 of {target.name} is known, so what came is taken on trust. Its SHA-256 is {found}; it is "
        "recorded, and later copies are held to it."
    )
    return Fetched(target, (note,))


def _from_mirrors(urls: Sequence[str], target: Path, expected: str, bar: bool) -> str:
    """Fetch a file into its place; its SHA-256."""
    import requests

    part, problems, wrong = target.with_name(f"{target.name}.part"), [], False
    for url in urls:
        try:
            found = _whole(url, part, expected, bar)
        except requests.RequestException as error:
            problems.append(f"{urlsplit(url).netloc} does not give it ({cause_of(error)})")
            continue
        except _NotTheFile as error:
            problems.append(f"{urlsplit(url).netloc} {error}")
            wrong = True
            continue
        part.replace(target)
        _state_of(part).unlink(missing_ok=True)
        return found
    kept = f" {part.stat().st_size:,} bytes are kept and gone on with next time." if part.exists() else ""
    raise (CheckpointError if wrong else UnavailableError)(
        f"{target.name} could not be fetched: {'; '.join(problems)}.{kept} Try again later, or fetch it with a browser "
        "and give the file's path."
    )


def _whole(url: str, part: Path, expected: str, bar: bool) -> str:
    """Fetch a URL wholly into `part` and check it; its SHA-256."""
    while True:
        resumed = part.exists()
        _receive(url, part, bar, trusted=bool(expected))
        found = sha256_of(part)
        if not expected:
            wrong = _what_is_wrong(part)
        elif found != expected:
            wrong = _PAGE if _is_page(part) else f"sent another file: its SHA-256 is {found}, expected {expected}"
        else:
            wrong = ""
        if not wrong:
            return found
        part.unlink()
        if wrong == _PAGE or not resumed:
            raise _NotTheFile(wrong)
        # else its first bytes, of an earlier session or another mirror, may be what is wrong: once more, from the start


_PAGE = (
    "sent a web page instead of the file: an error, a login, or (Google Drive) too many downloads today or a file that "
    "is not shared with everyone"
)


def _is_page(part: Path) -> bool:
    with part.open("rb") as file:
        return file.read(512).lstrip()[:1] == b"<"


def _what_is_wrong(part: Path) -> str:
    """Why a download of unknown SHA-256 can't be a whole file of weights; empty if it can."""
    from .weights import check_whole

    if _is_page(part):
        return _PAGE
    try:
        check_whole(part)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{part} ").partition(". ")[0].strip(".")  # the part is gone when this is read
        return f"sent a file that {reason}"
    return ""


def _receive(url: str, part: Path, bar: bool, *, trusted: bool) -> None:
    """Fetch a URL into `part`, as often as it breaks off; `trusted` if a SHA-256 will tell whether all parts fit."""
    import requests

    idle = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive_more(url, part, bar, trusted)
            return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            idle = 0 if part.exists() and part.stat().st_size > before else idle + 1
            if idle >= ATTEMPTS:
                raise
        time.sleep(PAUSE * 2**idle)


def _receive_more(url: str, part: Path, bar: bool, trusted: bool) -> None:
    """Go on with `part` where it ends, or begin it."""
    import requests
    from tqdm.auto import tqdm

    known = _read(_state_of(part))
    same = known.get("validator") if known.get("url") == url else None
    have = part.stat().st_size if part.exists() and (same or trusted) else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "voiceclone"}  # of packed bytes no place is known
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": same} if same else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # longer than the file, or just as long: the check that follows would have told
            _receive_more(url, part, bar, trusted)
            return
        answer.raise_for_status()
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise _NotTheFile(_PAGE)
        goes_on = answer.status_code == requests.codes.partial_content
        packed = answer.headers.get("Content-Encoding", "identity") != "identity"  # though we asked for it as it is
        if have and goes_on and packed:
            part.unlink()  # the server counts packed bytes, the part has them unpacked
            _receive_more(url, part, bar, trusted)
            return
        start = have if goes_on else 0
        place = answer.headers.get("Content-Range", "")
        if goes_on and not place.startswith(f"bytes {have}-"):
            raise _NotTheFile(f"sent another part of the file ({place or 'it does not say which'})")
        total = None if packed else _total(start, place if goes_on else "", answer.headers.get("Content-Length", ""))
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        # A weak one does not vouch for every byte.
        usable = validator and not validator.startswith("W/") and not packed
        with atomic_write(_state_of(part), "w") as file:
            json.dump({"url": url, "validator": validator if usable else None}, file)
        shown = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=not bar)
        with shown, part.open("ab" if start else "wb") as file:
            for chunk in answer.iter_content(CHUNK):
                shown.update(file.write(chunk))
    if total is not None and (size := part.stat().st_size) < total:
        raise requests.ConnectionError(f"{size:,} of {total:,} bytes came")


def _total(start: int, place: str, length: str) -> int | None:
    """Bytes of the whole file, from ``Content-Range``, as a server may send less than the rest, or the length."""
    whole = place.rpartition("/")[2]
    if whole.isdecimal():
        return int(whole)
    return start + int(length) if length.isdecimal() else None


def _direct(url: str) -> str:
    """The address of a file whose page's address people copy."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise VoiceCloneError(f"{url} is no URL ({error}). Expected: https://example.org/model.pt") from error
    if parts.netloc in ("drive.google.com", "docs.google.com"):
        found = re.search(r"/d/([\w-]+)", parts.path)
        file_id = found[1] if found else parse_qs(parts.query).get("id", [""])[0]
        return _drive(file_id) if file_id else url
    if parts.netloc == "huggingface.co":
        return url.replace("/blob/", "/resolve/", 1)
    return url


def _name_in(url: str) -> str:
    """The file's name in a URL, of harmless characters alone."""
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(urlsplit(url).path)).name)[-NAME_LENGTH:].strip(".")
    return f"_{name}" if name.lower() in OURS else name or "weights"


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read(path: Path) -> dict[str, str]:
    """A small file of ours; empty where it is missing or torn."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
