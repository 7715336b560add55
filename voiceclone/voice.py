"""The voice folder: everything the suite knows of one voice, in plain files.

::

    voices/<name>/
      voice.json        name, language, consent, when it was created
      takes/0001-1.wav  what the microphone gave, never changed (0001 = clip, 1 = take)
      clips.csv         one row a clip
      clips/0001.wav    cleaned and tagged
      metadata.csv      LJSpeech form: id|text|normalised text
      runs/<run>/       training: config.json, log.jsonl, checkpoints/, previews/
      samples/          what the voice has said
      exports/

This module alone knows these names. Every write is atomic, so a crash leaves the old file or the new one.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from .errors import VoiceError
from .files import atomic_write, text_hash

SCHEMA_VERSION = 1
CONSENT_STATEMENT = (
    "The recordings are of my own voice, or I hold the written consent of the person who speaks. "
    "I will not use the cloned voice to deceive, to harm, or to pretend to be somebody without their consent, "
    "and I will say that it is synthetic where a listener could take it for the person."
)
STATES = ("missing", "accepted", "review", "rejected")
_TAKE_NAME = re.compile(r"(\d{4})-(\d+)\.wav")


@dataclass(frozen=True)
class Consent:
    """Who allowed this voice to be cloned, when, and to what they agreed."""

    who: str
    when: str  # ISO 8601
    agreed: str = CONSENT_STATEMENT


@dataclass(frozen=True)
class Clip:
    """One row of ``clips.csv``: a sentence on its way from prompt to training."""

    id: str  # "0001" for the first prompt
    prompt: str = ""  # what was to be read
    take: str = ""  # name of the chosen file in takes/; "" = not recorded
    hash: str = ""  # content hash of that file
    checks: str = ""  # what is wrong with the take, "; " between; "" = nothing
    heard: str = ""  # what the transcriber wrote
    heard_by: str = ""  # engine:model@hash, so that an unchanged take is not heard twice
    confidence: str = ""  # of what was heard, 0 to 1
    transcript: str = ""  # the text that training uses
    source: str = ""  # whose text that is: prompt, wav2vec2, whisper, hand or tags
    cleaned: str = ""  # hash of the take and the settings that clips/<id>.wav was made with
    state: str = "missing"  # missing, accepted (training may use it), review (someone should look) or rejected

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d{4}", self.id):
            raise VoiceError(f"{self.id!r} is no clip id: expected four digits, such as '0001'.")
        if self.state not in STATES:
            raise VoiceError(f"Clip {self.id} has state {self.state!r}; expected one of {', '.join(STATES)}.")

    @property
    def number(self) -> int:
        """Number of the prompt, from 1."""
        return int(self.id)


COLUMNS = tuple(field.name for field in fields(Clip))
LATER_COLUMNS = {"confidence"}  # tables that were written before there was such a column lack it


class Voice:
    """A voice folder. Open one with `Voice.open`, make one with `Voice.create`."""

    def __init__(self, path: Path, *, name: str, language: str, consent: Consent, created: str) -> None:
        self.path = path
        self.name = name
        self.language = language
        self.consent = consent
        self.created = created

    def __repr__(self) -> str:
        return f"Voice({self.name!r}, {len(self.usable())} clips ready, {str(self.path)!r})"

    # Making and finding -------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, name: str, *, root: str | Path = "voices", consent: Consent | str, language: str = "en"
    ) -> Voice:
        """Make the folder of a new voice; opening it is all that happens when the same voice is there already.

        Parameters
        ----------
        name : str
            Name of the voice and of its folder.
        root : str or Path
            Where voice folders lie.
        consent : Consent or str
            The recorded consent; a plain text is the name of who agrees, now, to `CONSENT_STATEMENT`.
        language : str
            ISO 639-1 code of the language that is spoken.

        Raises
        ------
        VoiceError
            If the name cannot be a folder's, or nobody consents.
        """
        folder = Path(root) / folder_name(name)
        if isinstance(consent, str):
            consent = Consent(consent.strip(), datetime.now().astimezone().isoformat(timespec="seconds"))
        if not consent.who.strip() or not consent.agreed.strip():
            raise VoiceError(
                f"The voice {name!r} needs the consent of the person who speaks: say who agrees to the statement "
                "(notebook 00, or consent='Your Name')."
            )
        if (folder / "voice.json").exists():
            return cls.open(folder)
        voice = cls(folder, name=name.strip(), language=language, consent=consent, created=consent.when)
        with atomic_write(folder / "voice.json", "w") as file:
            content = {
                "schema": SCHEMA_VERSION,
                "name": voice.name,
                "language": language,
                "consent": asdict(consent),
                "created": voice.created,
            }
            json.dump(content, file, indent=2, ensure_ascii=False)
        voice.takes_dir.mkdir(exist_ok=True)
        return voice

    @classmethod
    def open(cls, path: str | Path) -> Voice:
        """Open a voice folder.

        Raises
        ------
        VoiceError
            If there is none, it is damaged, or a newer voiceclone made it.
        """
        path = Path(path)
        file = path / "voice.json"
        if not file.is_file():
            known = ", ".join(sorted(file.parent.name for file in path.parent.glob("*/voice.json"))) or "none"
            raise VoiceError(
                f"There is no voice at {path} (no voice.json). Voices in {path.parent}: {known}. "
                "Make one with notebook 00 or Voice.create."
            )
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["schema"] > SCHEMA_VERSION:
                raise VoiceError(
                    f"{file} has schema {content['schema']}; this voiceclone knows {SCHEMA_VERSION}. Update voiceclone."
                )
            return cls(
                path,
                name=content["name"],
                language=content["language"],
                consent=Consent(**content["consent"]),
                created=content["created"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise VoiceError(
                f"{file} is damaged ({error}). Restore it from a copy; the takes and clips beside it are not affected."
            ) from error

    @classmethod
    def list(cls, root: str | Path = "voices") -> list[Voice]:
        """All voices below a folder, by name."""
        return [cls.open(file.parent) for file in sorted(Path(root).glob("*/voice.json"))]

    # Where things are ---------------------------------------------------------------------------------------------

    @property
    def takes_dir(self) -> Path:
        """Recordings as they came."""
        return self.path / "takes"

    @property
    def clips_dir(self) -> Path:
        """Cleaned clips."""
        return self.path / "clips"

    @property
    def runs_dir(self) -> Path:
        """One folder a training run."""
        return self.path / "runs"

    @property
    def samples_dir(self) -> Path:
        """What the voice has said."""
        return self.path / "samples"

    @property
    def exports_dir(self) -> Path:
        """What was made to be given away."""
        return self.path / "exports"

    @property
    def metadata_path(self) -> Path:
        """The LJSpeech list."""
        return self.path / "metadata.csv"

    @property
    def report_path(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    def run_dir(self, run: str) -> Path:
        """Folder of a training run."""
        return self.runs_dir / folder_name(run)

    def clip_path(self, clip_id: str) -> Path:
        """The cleaned clip."""
        return self.clips_dir / f"{clip_id}.wav"

    def take_path(self, clip: Clip) -> Path:
        """The chosen take of a clip."""
        if not clip.take:
            raise VoiceError(f"Clip {clip.id} has no take yet: record it in notebook 01.")
        return self.takes_dir / clip.take

    def takes(self, clip_id: str) -> list[Path]:
        """All takes of a clip, oldest first."""
        numbered = {
            int(match[2]): path
            for path in self.takes_dir.glob(f"{clip_id}-*.wav")
            if (match := _TAKE_NAME.fullmatch(path.name))
        }
        return [numbered[number] for number in sorted(numbered)]

    def next_take_path(self, clip_id: str) -> Path:
        """Where the next take of a clip goes; never a file that is there already."""
        last = self.takes(clip_id)[-1:]
        number = int(_TAKE_NAME.fullmatch(last[0].name)[2]) + 1 if last else 1
        return self.takes_dir / f"{clip_id}-{number}.wav"

    # The rows of clips.csv ----------------------------------------------------------------------------------------

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The rows of ``clips.csv``, by id.

        Raises
        ------
        VoiceError
            If the file is not such a table, with the line that is wrong.
        """
        file = self.path / "clips.csv"
        if not file.exists():
            return ()
        try:
            content = file.read_text(encoding="utf-8-sig")  # spreadsheets add a byte-order mark
        except UnicodeDecodeError as error:
            raise VoiceError(f"{file} is not UTF-8 text ({error}). Save it as 'CSV UTF-8'.") from error
        rows = csv.DictReader(io.StringIO(content), strict=True)
        try:
            return self._parsed(rows, file)
        except csv.Error as error:  # such as a quotation that never ends, which would swallow the rows after it
            raise VoiceError(f"{file}, line {rows.line_num}: {error}. {_REBUILD}") from error

    def _parsed(self, rows: csv.DictReader, file: Path) -> tuple[Clip, ...]:
        if missing := set(COLUMNS) - LATER_COLUMNS - set(rows.fieldnames or ()):
            raise VoiceError(f"{file} lacks the columns {', '.join(sorted(missing))}. {_REBUILD}")
        clips: dict[str, Clip] = {}
        for row in rows:
            try:
                cells = {name: row.get(name) or "" for name in COLUMNS}
                if cells["id"].isdigit():
                    cells["id"] = cells["id"].zfill(4)  # spreadsheets take 0001 for the number 1
                clip = Clip(**cells)
            except VoiceError as error:
                raise VoiceError(f"{file}, line {rows.line_num}: {error} {_REBUILD}") from error
            if clip.id in clips:
                raise VoiceError(f"{file}, line {rows.line_num}: clip {clip.id} is there twice. {_REBUILD}")
            clips[clip.id] = clip
        return tuple(clips[clip_id] for clip_id in sorted(clips))

    def clip(self, clip_id: str) -> Clip:
        """One row of ``clips.csv``."""
        for clip in self.clips:
            if clip.id == clip_id:
                return clip
        raise VoiceError(f"{self.name} has no clip {clip_id}; it has {', '.join(c.id for c in self.clips) or 'none'}.")

    def update(self, *clips: Clip) -> None:
        """Put rows into ``clips.csv``, in place of those with the same id; threads take turns."""
        with _UPDATING:
            self._write_clips({clip.id: clip for clip in (*self.clips, *clips)}.values())

    def replace_clips(self, clips: Iterable[Clip]) -> None:
        """Write ``clips.csv`` anew, without reading the old one."""
        self._write_clips(clips)

    def _write_clips(self, clips: Iterable[Clip]) -> None:
        with atomic_write(self.path / "clips.csv", "w") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for clip in sorted(clips, key=lambda clip: clip.id):
                writer.writerow({name: re.sub("\r\n?", "\n", cell) for name, cell in asdict(clip).items()})

    def usable(self) -> tuple[Clip, ...]:
        """The clips that training may use: accepted, with their text, and cleaned."""
        return tuple(
            clip
            for clip in self.clips
            if clip.state == "accepted" and clip.transcript and self.clip_path(clip.id).exists()
        )

    def content_hash(self) -> str:
        """What the training data are: changes with any usable clip's sound or text."""
        from .audio import sound_hash

        return text_hash(*((c.id, c.transcript, sound_hash(self.clip_path(c.id))) for c in self.usable()))

    def write_metadata(self) -> Path:
        """Write ``metadata.csv`` (``id|text|normalised text``) of the usable clips."""
        from .text import normalise

        with atomic_write(self.metadata_path, "w") as file:
            for clip in self.usable():
                text = " ".join(clip.transcript.replace("|", " ").split())  # one clip, one line
                file.write(f"{clip.id}|{text}|{normalise(text)}\n")
        return self.metadata_path


_UPDATING = threading.Lock()  # a panel's thread may enter a take while a cell enters what it has heard
_REBUILD = "Mend it in a spreadsheet, or rebuild it from the tagged clips: voiceclone.tag.rebuild(voice)."


def folder_name(name: str) -> str:
    """Check that a name can be a folder's on every system, and return it without outer spaces.

    Letters of any script, digits, spaces, ``-``, ``_`` and ``.`` are fine.

    Raises
    ------
    VoiceError
        If the name is empty, leads elsewhere (``..``, a slash) or holds other characters.
    """
    name = unicodedata.normalize("NFC", name.strip())
    wrong = sorted({c for c in name if not (c.isalnum() or c in " -_." or unicodedata.category(c).startswith("M"))})
    if not name or name.startswith(".") or name.endswith(".") or wrong or len(name) > 80:
        found = "it is empty, too long or begins or ends with a dot"
        if wrong:
            found = f"it holds {' '.join(map(repr, wrong))}"
        raise VoiceError(
            f"{name!r} cannot be the name of a folder: {found}. "
            "Use up to 80 letters, digits, spaces, '-', '_' and inner dots."
        )
    return name
