"""Packing a voice to be given away or kept: a zip that rebuilds it, or a checkpoint that FakeYou reads."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .errors import CheckpointError, VoiceCloneError, VoiceError
from .files import atomic_path, atomic_write
from .voice import Voice, folder_name
from .webpage import latest_run, read_evaluation

if TYPE_CHECKING:
    from .tacotron2.checkpoint import Checkpoint

FORMATS = ("zip", "fakeyou")
MOST_BYTES = 8 * 2**30  # a voice of 10,000 clips and a full checkpoint; a zip that unpacks to more is refused
MOST_FILES = 50_000
PARTS = (
    "voice.json",
    "clips.csv",
    "metadata.csv",
    "README.md",
    "takes",
    "clips",
    "runs",
    "samples",
)  # of a zip
FOREIGN = ":\\\0"  # a drive letter or a backslash leads elsewhere on Windows


def export(voice: Voice, *, format: str = "zip", run: str | None = None) -> Path:
    """Pack a voice into its ``exports`` folder.

    Parameters
    ----------
    voice : Voice
        Its consent must be recorded.
    format : str
        ``"zip"``: takes, clips, tables, the best checkpoint and a model card, from which `import_zip` rebuilds the
        voice. ``"fakeyou"``: a checkpoint of the `full` preset as NVIDIA/tacotron2 and FakeYou read it.
    run : str, optional
        The training run; by default the one that was trained last.

    Returns
    -------
    Path
        The file that was made.

    Raises
    ------
    VoiceCloneError
        If the format is unknown, no consent is recorded, there is no checkpoint, or it cannot be exchanged.
    """
    if format not in FORMATS:
        raise VoiceCloneError(f"{format!r} is no format of export; expected {' or '.join(FORMATS)}.")
    if not voice.consent.who.strip() or not voice.consent.agreed.strip():
        raise VoiceError(
            f"{voice.name} is not exported: {voice.path / 'voice.json'} records nobody's consent. "
            "Record it in notebook 00."
        )
    run = run or latest_run(voice)
    if run is None:
        raise CheckpointError(
            f"{voice.name} was not trained yet, so there is nothing to export. Run notebook 05."
        )
    best = voice.run_dir(run) / "checkpoints" / "best.pt"
    from .tacotron2.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(best)
    return _export_zip(voice, run, checkpoint) if format == "zip" else _export_fakeyou(voice, run, checkpoint)


def import_zip(path: str | Path, *, root: str | Path = "voices") -> Voice:
    """Rebuild a voice from a zip that `export` made.

    Nothing is written outside the new folder, and the folder appears only when the whole zip was good.

    Parameters
    ----------
    path : str or Path
        The zip.
    root : str or Path
        Where voice folders lie.

    Raises
    ------
    VoiceError
        If it is no such zip, is damaged, leads outside its folder or is absurdly large, or the voice exists.
    """
    path, root = Path(path), Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".import-") as folder:
        unpacked = Path(folder, "voice")
        try:
            with zipfile.ZipFile(path) as archive:
                _unpack(archive, unpacked)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
            raise VoiceError(
                f"{path} cannot be unpacked ({error}). Get it again from where it came."
            ) from error
        voice = Voice.open(unpacked)
        target = root / folder_name(voice.name)
        if target.exists():
            raise VoiceError(
                f"There is a voice at {target} already, which stays as it is. Move it, or give another root."
            )
        unpacked.rename(target)
    return Voice.open(target)


def model_card(voice: Voice, run: str, checkpoint: Checkpoint) -> str:
    """What a voice is, whose, how good, and what it may be used for, in Markdown."""
    usable = voice.usable()
    lines = [
        f"# {voice.name}",
        "",
        "A synthetic voice: a Tacotron 2 trained with voiceclone.",
        "",
        f"- Language: {voice.language}",
        f"- Trained on: {len(usable)} clips, {checkpoint.step:,} steps (run `{run}`)",
        f"- Consent: {voice.consent.who}, {voice.consent.when}",
        "",
        *(f"> {line}" for line in voice.consent.agreed.splitlines()),
        "",
        "## Measures",
        "",
        *_measures(voice),
        "",
        "## Use",
        "",
        "Say that it is synthetic where a listener could take it for the person. It is bound to the consent above;",
        "ask the person for any other use.",
    ]
    return "\n".join(lines) + "\n"


def _measures(voice: Voice) -> Iterator[str]:
    result = read_evaluation(voice)
    if result is None:
        yield "Nothing was measured: run `voiceclone evaluate` before exporting."
        return
    yield f"On {result.voice.count} sentences that were never trained on, heard by {result.engine}:"
    yield ""
    yield "| | clone | natural clips |"
    yield "|-|-:|-:|"
    for label, name in (("word error rate", "word_error_rate"), ("likeness", "likeness"),
                        ("predicted opinion, 1 to 5", "opinion_score")):  # fmt: skip
        yield f"| {label} | {getattr(result.voice, name):.3f} | {getattr(result.natural, name):.3f} |"
    yield f"| sentences that failed | {result.voice.failures} | |"


def _export_zip(voice: Voice, run: str, checkpoint: Checkpoint) -> Path:
    target = voice.exports_dir / f"{folder_name(voice.name)}.zip"
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.md", model_card(voice, run, checkpoint))
        for path in _contents(voice, run):
            archive.write(path, path.relative_to(voice.path).as_posix())
    return target


def _contents(voice: Voice, run: str) -> Iterator[Path]:
    """Files of the voice that a zip carries, in the order of `PARTS`."""
    folder = voice.run_dir(run)
    tables = [voice.path / name for name in ("voice.json", "clips.csv", "metadata.csv")]
    sounds = [*sorted(voice.takes_dir.glob("[!.]*.wav")), *sorted(voice.clips_dir.glob("[!.]*.wav"))]
    trained = [folder / name for name in ("config.json", "log.jsonl", "checkpoints/best.pt")]
    measured = [voice.samples_dir / "evaluation.json"]
    yield from (path for path in (*tables, *sounds, *trained, *measured) if path.exists())


def _export_fakeyou(voice: Voice, run: str, checkpoint: Checkpoint) -> Path:
    from .tacotron2.checkpoint import save_nvidia

    target = voice.exports_dir / f"{folder_name(voice.name)}-fakeyou.pt"
    save_nvidia(checkpoint.model, target, iteration=checkpoint.step)
    with atomic_write(target.with_suffix(".md"), "w") as file:
        file.write(model_card(voice, run, checkpoint))
    return target


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write a zip's files below a folder, after all of them were found to be harmless."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise VoiceError(
            f"{archive.filename} would unpack to {len(entries)} files of {sum(e.file_size for e in entries):,} bytes; "
            f"a voice has at most {MOST_FILES} files of {MOST_BYTES:,} bytes. It is refused."
        )
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry, archive)
        if entry.filename.casefold() in seen:
            raise VoiceError(f"{archive.filename} holds {entry.filename!r} twice. It is refused.")
        seen.add(entry.filename.casefold())
    if "voice.json" not in seen:
        raise VoiceError(
            f"{archive.filename} holds no voice (no voice.json). Expected a zip that voiceclone exported."
        )
    for entry in entries:
        target = folder / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)  # zipfile ends an entry at its declared size, and checks its sum


def _check_entry(entry: zipfile.ZipInfo, archive: zipfile.ZipFile) -> None:
    parts = PurePosixPath(entry.filename).parts
    outside = entry.filename.startswith("/") or ".." in parts or any(c in entry.filename for c in FOREIGN)
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if outside or link or not parts or parts[0] not in PARTS:
        what = "a link" if link else "a file outside a voice's folder"
        raise VoiceError(
            f"{archive.filename} holds {what}: {entry.filename!r}. It is refused, nothing was unpacked."
        )
