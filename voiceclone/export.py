"""Packing a voice to be given away or kept, as a zip or as a checkpoint that FakeYou reads; and both ways back."""

from __future__ import annotations

import json
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .audio import AudioConfig
from .errors import CheckpointError, VoiceCloneError, VoiceError
from .files import atomic_path, atomic_write
from .text import FAKEYOU, FRONT_END, FRONT_ENDS, LETTERS
from .vocoders.tuned import FOLDER, generator_of, tuned_vocoder
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
READS = {  # what a model is to be given, by its text front-end
    FRONT_END: "phonemes, as in `{HH AH0 L OW1}, {W ER1 L D}.` (elsewhere: with ARPAbet on)",
    FAKEYOU: "phonemes, as in `{HH AH0 L OW1} , {W ER1 L D} .` (elsewhere: with ARPAbet on)",
    LETTERS: "letters, as in `hello, world.` (elsewhere: with ARPAbet off)",
}
FOREIGN = ":\\\0"  # a drive letter or a backslash leads elsewhere on Windows


def export(voice: Voice, *, format: str = "zip", run: str | None = None) -> Path:
    """Pack a voice into its ``exports`` folder.

    Parameters
    ----------
    voice : Voice
        Its consent must be recorded.
    format : str
        ``"zip"``: takes, clips, tables, the best checkpoint, the vocoder that was tuned to it and a model card, from
        which `import_zip` rebuilds the voice. ``"fakeyou"``: a checkpoint of the `full` preset as NVIDIA/tacotron2
        and FakeYou read it.
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
    _check_consent(voice, "is not exported")
    from .synthesize import find_checkpoint
    from .tacotron2.checkpoint import load_checkpoint

    best = find_checkpoint(voice, run or latest_run(voice))  # of a voice with imported runs alone, the newest of them
    run, checkpoint = best.parent.parent.name, load_checkpoint(best)
    return _export_zip(voice, run, checkpoint) if format == "zip" else _export_fakeyou(voice, run, checkpoint)


def holds_voice(path: str | Path) -> bool:
    """Whether a file is a zip with a voice in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "voice.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError):  # what it is then is for others to say
        return False


def import_zip(path: str | Path, *, root: str | Path = "voices", folder: str | None = None) -> Voice:
    """Rebuild a voice from a zip that `export` made.

    Nothing is written outside the new folder, and the folder appears only when the whole zip was good.

    Parameters
    ----------
    path : str or Path
        The zip.
    root : str or Path
        Where voice folders lie.
    folder : str, optional
        Name of the new one; by default the voice's.

    Raises
    ------
    VoiceError
        If it is no such zip, is damaged, leads outside its folder or is absurdly large, or the voice exists.
    """
    path, root = Path(path), Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".import-") as temporary:
        unpacked = Path(temporary, "voice")
        try:
            with zipfile.ZipFile(path) as archive:
                _unpack(archive, unpacked)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
            raise VoiceError(
                f"{path} cannot be unpacked ({error}). Get it again from where it came."
            ) from error
        voice = Voice.open(unpacked)
        target = root / (folder or folder_name(voice.name))
        if target.exists():
            raise VoiceError(
                f"There is a voice at {target} already, which stays as it is. Move it, or give another root."
            )
        unpacked.rename(target)
    return Voice.open(target)


@dataclass(frozen=True)
class ImportedRun:
    """A run that was not trained here."""

    run: str
    front_end: str  # how it is spoken to
    notes: tuple[str, ...] = ()  # what the user should know


def import_checkpoint(
    voice: Voice, source: str | Path, *, run: str = "imported", front_end: str | None = None
) -> ImportedRun:
    """Take a checkpoint of NVIDIA/tacotron2 or FakeYou into a voice, as a run that speaks like any other.

    Parameters
    ----------
    voice : Voice
        Of the person whose voice it is, with their consent.
    source : str or Path
        Anything that `voiceclone.download.fetch` takes.
    run : str
        Name of the new run.
    front_end : str, optional
        ``"fakeyou-arpabet/1"`` if it was trained on phonemes as at FakeYou, ``"english-arpabet/1"`` if as here,
        ``"english-letters/1"`` if on plain letters; it is spoken to in the same. By default what was exported here
        says it itself, and else the weights tell: symbols that training never met have withered.

    Raises
    ------
    VoiceError
        If there is such a run already, or nobody's consent is recorded.
    CheckpointError
        If it is no such checkpoint.
    """
    from .tacotron2 import warm_start
    from .tacotron2.checkpoint import Checkpoint, save_checkpoint

    _check_consent(voice, "takes no checkpoint in")
    if front_end not in (None, *FRONT_ENDS):
        raise VoiceCloneError(f"front_end={front_end!r} is not known; there are {' and '.join(FRONT_ENDS)}.")
    folder = voice.run_dir(run)
    if any(folder.glob("checkpoints/*.pt")) or (folder / "log.jsonl").exists():
        raise VoiceError(f"{voice.name} has a run {run!r} already, which stays as it is. Give another name.")
    started = warm_start(source)
    if started.model.config.speaker_dim:
        raise CheckpointError(
            f"{source} is a model of voiceclone's own with many voices. To take such a voice along, export it as a zip."
        )
    if not started.symbols_known:
        raise CheckpointError(
            f"{source} could only babble: {'; '.join(started.notes)}. To train on from it, give it to `train --start`."
        )
    if started.model.config.n_mels != AudioConfig().n_mels:
        raise CheckpointError(
            f"{source} draws spectrograms of {started.model.config.n_mels} bands; the vocoders here speak those of "
            f"{AudioConfig().n_mels}. Choose another checkpoint."
        )
    front_end = front_end or started.front_end
    with atomic_write(folder / "config.json", "w") as file:
        content = {"imported": str(source), "front_end": front_end, "model": asdict(started.model.config)}
        json.dump(content, file, indent=1)
    checkpoint = Checkpoint(started.model, started.step, front_end=front_end)
    save_checkpoint(folder / "checkpoints" / "best.pt", checkpoint)  # last: without it there is no run
    return ImportedRun(run, front_end, started.notes)


def _check_consent(voice: Voice, refusal: str) -> None:
    if not voice.consent.who.strip() or not voice.consent.agreed.strip():
        raise VoiceError(
            f"{voice.name} {refusal}: {voice.path / 'voice.json'} records nobody's consent. Record it in notebook 00."
        )


def model_card(voice: Voice, run: str, checkpoint: Checkpoint) -> str:
    """What a voice is, whose, how good, and what it may be used for, in Markdown."""
    lines = [
        f"# {voice.name}",
        "",
        "A synthetic voice: a Tacotron 2 trained with voiceclone.",
        "",
        f"- Language: {voice.language}",
        f"- {_trained(voice, run)}, {checkpoint.step:,} step{'s' * (checkpoint.step != 1)} (run `{run}`)",
        f"- Reads: {READS[checkpoint.front_end]}",
        f"- Vocoder: HiFi-GAN, {'tuned to this voice' if tuned_vocoder(voice, run) else 'the universal one'}",
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


def _trained(voice: Voice, run: str) -> str:
    """On what a run was trained, or where it came from."""
    try:
        content = json.loads((voice.run_dir(run) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # as is every run's of whose folder only checkpoints are left
        content = {}
    if "imported" in content:
        return f"Trained elsewhere: {content['imported']}"
    return f"Trained on: {len(voice.usable())} clips"


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
        for path in _tuned(voice, run):
            archive.write(path, f"runs/{run}/{FOLDER}/{path.name}")
    return target


def _contents(voice: Voice, run: str) -> Iterator[Path]:
    """Files of the voice that a zip carries, in the order of `PARTS`."""
    folder = voice.run_dir(run)
    tables = [voice.path / name for name in ("voice.json", "clips.csv", "metadata.csv")]
    sounds = [*sorted(voice.takes_dir.glob("[!.]*.wav")), *sorted(voice.clips_dir.glob("[!.]*.wav"))]
    trained = [folder / name for name in ("config.json", "split.json", "log.jsonl", "checkpoints/best.pt")]
    measured = [voice.samples_dir / "evaluation.json"]
    yield from (path for path in (*tables, *sounds, *trained, *measured) if path.exists())


def _tuned(voice: Voice, run: str) -> Iterator[Path]:
    """Files of the HiFi-GAN that speaks for a run; on this machine where they have not come to the drive yet.

    A WaveGlow, which speaks only where it is asked for, has 350 MB and is not packed.
    """
    speaks = generator_of(voice.run_dir(run))
    if speaks.exists():
        yield from (path for name in ("config.json", "log.jsonl") if (path := speaks.with_name(name)).exists())
        yield speaks


def _export_fakeyou(voice: Voice, run: str, checkpoint: Checkpoint) -> Path:
    from .tacotron2.checkpoint import save_nvidia

    target = voice.exports_dir / f"{folder_name(voice.name)}-fakeyou.pt"
    save_nvidia(checkpoint.model, target, iteration=checkpoint.step, front_end=checkpoint.front_end)
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
