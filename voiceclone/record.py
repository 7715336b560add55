"""Takes: recorded by the microphone or imported from files, checked at once, and never changed or lost.

`import_takes`, `record_take` and `add_take` put takes into the voice folder, `check_take` says what is wrong with one,
and `choose_take` says which one of a clip's takes is used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .audio import load, save
from .check import Problem, TakeReport, check_take, unmeasured
from .errors import AudioError, UnavailableError, VoiceError
from .files import atomic_path, file_hash
from .voice import Clip

if TYPE_CHECKING:
    from .voice import Voice

__all__ = [
    "Problem",
    "TakeReport",
    "add_take",
    "check_take",
    "choose_take",
    "import_takes",
    "microphones",
    "record_take",
]

SUFFIXES = frozenset(".wav .flac .ogg .opus .mp3 .m4a .aac .aif .aiff .wma".split())
_NAMED_TAKE = re.compile(r"(\d{4})(?:-(\d+))?")


def add_take(
    voice: Voice, clip_id: str, wave: np.ndarray, sample_rate: int, *, prompt: str | None = None
) -> TakeReport:
    """Keep a new take of a clip, check it, and choose it when it passes.

    Parameters
    ----------
    voice : Voice
        The voice folder.
    clip_id : str
        ``"0001"`` for the first prompt.
    wave : np.ndarray, shape (samples,)
        Full scale is 1; what exceeds it is clipped, and the check says so.
    sample_rate : int
        Hz; kept.
    prompt : str, optional
        What was read; by default the clip's own prompt, else the project's.
    """
    row = _row(voice, clip_id, prompt)
    path = save(voice.next_take_path(clip_id), np.clip(wave, -1.0, 1.0), sample_rate)
    _enter(voice, [_chosen(voice, row)])
    return _report(path, row.prompt)


def choose_take(voice: Voice, clip_id: str, take_name: str) -> TakeReport:
    """Use this one of a clip's takes, whatever its check says; what was known of the other take is forgotten."""
    names = [path.name for path in voice.takes(clip_id)]
    if take_name not in names:
        raise VoiceError(f"Clip {clip_id} has no take {take_name!r}; it has {', '.join(names) or 'none'}.")
    row = _row(voice, clip_id)
    path = voice.takes_dir / take_name
    report = _report(path, row.prompt)
    _enter(voice, [_with_take(row, path, report)])
    return report


def record_take(voice: Voice, clip_id: str, *, seconds: float, device: int | str | None = None) -> TakeReport:
    """Record one take through this machine's microphone and keep it.

    Parameters
    ----------
    voice : Voice
        The voice folder.
    clip_id : str
        ``"0001"`` for the first prompt.
    seconds : float
        How long to record.
    device : int or str, optional
        One of `microphones`; the system's default otherwise.

    Raises
    ------
    UnavailableError
        If there is no microphone, or no PortAudio to reach it.
    """
    sounddevice = _sounddevice()
    try:
        rate = int(sounddevice.query_devices(device, "input")["default_samplerate"])
        wave = sounddevice.rec(round(seconds * rate), samplerate=rate, channels=1, dtype="float32", device=device)
        sounddevice.wait()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UnavailableError(f"No recording from the microphone: {error}. {_NO_MICROPHONE}") from error
    return add_take(voice, clip_id, wave[:, 0], rate)


def microphones() -> tuple[str, ...]:
    """Names of this machine's inputs; empty when there is none."""
    try:
        devices = _sounddevice().query_devices()
    except UnavailableError:
        return ()
    return tuple(device["name"] for device in devices if device["max_input_channels"] > 0)


_NO_MICROPHONE = (
    "Record with any other program or a telephone and bring the files in: "
    "voiceclone.record.import_takes(voice, folder) or notebook 01."
)


def _sounddevice():  # noqa: ANN202 - a module
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, PortAudio is not
        raise UnavailableError(f"This machine's microphone cannot be reached: {error}. {_NO_MICROPHONE}") from error
    return sounddevice


# Importing files ------------------------------------------------------------------------------------------------------


def import_takes(
    voice: Voice, source: str | Path | Iterable[str | Path], *, prompts: Sequence[str] | None = None
) -> tuple[TakeReport, ...]:
    """Copy sound files into the voice folder as takes, check them and enter them into ``clips.csv``.

    A name such as ``0007-2.flac`` says clip and take. Files of other names, in the order a person would sort them, go
    to the prompts that have no take yet. The copy is a wav with the same samples at the same rate. A sound that is
    there already is skipped and no take is ever overwritten, so the import can be repeated. Of a clip's takes the
    latest that passes its check is chosen, else the latest.

    Parameters
    ----------
    voice : Voice
        The voice folder.
    source : str, Path or list of them
        A folder, or files.
    prompts : sequence of str, optional
        What was read, the first for clip 0001; by default the project's 25.

    Returns
    -------
    tuple of TakeReport
        One a file, in the files' order.

    Raises
    ------
    VoiceError
        If there is no sound file.
    AudioError
        If some of the files cannot be used: each is named, and all the others are in.
    """
    if prompts is None:
        from .prompts import PROMPTS as prompts
    files = _sound_files(source)
    known = {clip.id: clip for clip in voice.clips}
    ids = [f"{number:04d}" for number in range(1, len(prompts) + 1)]
    rows = [_prompted(known.get(i, Clip(i)), prompt) for i, prompt in zip(ids, prompts, strict=True)]
    before = {path for i in ids for path in voice.takes(i)}
    landed: dict[Path, Path] = {}
    try:
        failures = _bring_in(voice, files, ids, landed)
    finally:  # whatever stops the import, the takes that are in are entered
        _enter(voice, [_settled(voice, row, before) for row in rows])
    if failures:
        listed = "\n".join(f"- {file.name}: {why}" for file, why in failures.items())
        raise AudioError(f"{len(failures)} of {len(files)} files could not be imported, the others are in:\n{listed}")
    prompt_of = {row.id: row.prompt for row in rows}
    return tuple(_report(landed[file], prompt_of[landed[file].name[:4]]) for file in files)


def _bring_in(voice: Voice, files: list[Path], ids: list[str], landed: dict[Path, Path]) -> dict[Path, str]:
    """Copy the files that are new, noting in `landed` which take each one is; what cannot be used is returned."""
    taken = {key: path for i in ids for path in voice.takes(i) for key in _keys(i, _content(path))}
    failures = {}
    for file in sorted(files, key=lambda file: _NAMED_TAKE.fullmatch(file.stem) is None):  # those with a number first
        named = _NAMED_TAKE.fullmatch(file.stem)
        try:
            load(file, sample_rate=None)  # refuses what no stage could use
            content = _content(file)
            key = (named[1] if named else "", content)
            if key not in taken:
                take = _copy(file, _place(voice, file, ids))
                taken |= dict.fromkeys(_keys(take.name[:4], content), take)
            landed[file] = taken[key]
        except (AudioError, VoiceError) as error:
            failures[file] = str(error)
    return failures


def _keys(clip_id: str, content: str) -> tuple[tuple[str, str], ...]:
    """How a take is found again: by its clip and sound, or by its sound alone."""
    return ((clip_id, content), ("", content)) if content else ()


def _sound_files(source: str | Path | Iterable[str | Path]) -> list[Path]:
    if not isinstance(source, (str, Path)):
        files = [Path(file) for file in source]
    elif Path(source).is_dir():
        files = [f for f in Path(source).iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
        files.sort(key=_as_people_sort)
    else:
        files = [Path(source)]
    if not files:
        raise VoiceError(f"There is no sound file in {source}: expected wav, flac, ogg, mp3 or m4a, one file a prompt.")
    return files


def _as_people_sort(file: Path) -> list[str]:
    """Sort key that puts "take 2" before "take 10"."""
    return [part.zfill(12) if part.isdigit() else part for part in re.split(r"(\d+)", file.name.lower())]


def _place(voice: Voice, file: Path, ids: list[str]) -> Path:
    """The path of a new take."""
    named = _NAMED_TAKE.fullmatch(file.stem)
    if named and named[1] not in ids:
        raise VoiceError(f"there is no prompt {int(named[1])}: the prompts are 1 to {len(ids)}. Rename the file.")
    if named and named[2]:
        wanted = voice.takes_dir / f"{named[1]}-{int(named[2])}.wav"
        return voice.next_take_path(named[1]) if wanted.exists() else wanted
    clip_id = named[1] if named else next((i for i in ids if not voice.takes(i)), None)
    if clip_id is None:
        raise VoiceError("every prompt has a take already. Say by the name which one this is of, such as 0007-2.wav.")
    return voice.next_take_path(clip_id)


def _copy(file: Path, target: Path) -> Path:
    """Copy a sound as wav without changing a sample."""
    import soundfile

    try:
        info = soundfile.info(file)
    except soundfile.LibsndfileError:  # m4a and the like, through ffmpeg
        return _write(target, *load(file, sample_rate=None), "FLOAT")
    if info.format in ("WAV", "WAVEX", "RF64"):
        with atomic_path(target) as temporary:
            shutil.copyfile(file, temporary)
        return target
    if info.subtype in ("PCM_16", "PCM_24", "PCM_32"):  # as integers, since a way through floats rounds
        return _write(target, *soundfile.read(file, dtype="int32"), info.subtype)
    return _write(target, *soundfile.read(file, dtype="float32"), "FLOAT")


def _write(target: Path, wave: np.ndarray, rate: int, subtype: str) -> Path:
    import io

    import soundfile

    encoded = io.BytesIO()  # libsndfile does not say that a disk is full, Python does
    soundfile.write(encoded, wave, rate, format="WAV", subtype=subtype)
    with atomic_path(target) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    return target


def _content(file: Path) -> str:
    """Hash of a file's samples and rate, whatever its format; "" when they cannot be read."""
    import hashlib

    import soundfile

    try:
        wave, rate = soundfile.read(file, dtype="float64", always_2d=True)  # exact for integers and floats alike
    except soundfile.LibsndfileError:
        try:
            wave, rate = load(file, sample_rate=None)
        except AudioError:
            return ""
        wave = wave.astype(np.float64)[:, None]  # (samples,) -> (samples, 1)
    return f"{rate}:{wave.shape[1]}:{hashlib.sha256(wave.tobytes()).hexdigest()}"


# Rows of clips.csv ----------------------------------------------------------------------------------------------------


def _row(voice: Voice, clip_id: str, prompt: str | None = None) -> Clip:
    """The clip's row; a new one for a prompt that has none yet."""
    from .prompts import PROMPTS

    known = {f"{number:04d}": Clip(f"{number:04d}", prompt) for number, prompt in enumerate(PROMPTS, 1)}
    known |= {clip.id: clip for clip in voice.clips}
    if prompt:
        known[clip_id] = _prompted(known.get(clip_id, Clip(clip_id)), prompt)
    if clip_id not in known:
        raise VoiceError(f"There is no prompt {clip_id!r}: they are 0001 to {max(known)}. Say prompt=... to add one.")
    return known[clip_id]


def _prompted(row: Clip, prompt: str) -> Clip:
    """The row with this prompt; where it had another, its take was of that one and must be judged again."""
    return row if row.prompt == prompt else replace(row, prompt=prompt, take="")


def _enter(voice: Voice, rows: list[Clip]) -> None:
    """Put rows into the table; a clip that was made of another take must not stand for this one."""
    voice.update(*rows)
    for row in rows:
        if not row.cleaned:
            voice.clip_path(row.id).unlink(missing_ok=True)


def _settled(voice: Voice, row: Clip, before: set[Path]) -> Clip:
    """The row with a take chosen when new ones came; what the user chose among old ones stays."""
    takes = set(voice.takes(row.id))
    if takes <= before and (not takes or voice.takes_dir / row.take in takes):
        return row
    return _chosen(voice, row)


def _report(path: Path, prompt: str) -> TakeReport:
    try:
        report = check_take(*load(path, sample_rate=None), prompt)
    except AudioError as error:  # a take that was damaged later must not stand in the way of the others
        report = unmeasured(Problem("unreadable", str(error)))
    return replace(report, take=path.name)


def _chosen(voice: Voice, row: Clip) -> Clip:
    """The row with the latest take that passes its check, else with the latest."""
    paths = voice.takes(row.id)[::-1]
    reports = [_report(path, row.prompt) for path in paths]
    best = next((i for i, report in enumerate(reports) if report.ok), 0)
    return _with_take(row, paths[best], reports[best])


def _with_take(row: Clip, path: Path, report: TakeReport) -> Clip:
    """The row with another take: what was heard, written and cleaned of the one before does not hold for it."""
    content = file_hash(path)
    if (row.take, row.hash) == (path.name, content):
        return replace(row, checks=report.checks)
    return replace(
        row,
        take=path.name,
        hash=content,
        checks=report.checks,
        heard="",
        heard_by="",
        confidence="",
        transcript=row.prompt,
        source="prompt",
        cleaned="",
        state="accepted" if report.ok else "review",
    )
