"""Clips that say what they are: title, text, speaker, consent and history, inside the sound file.

TagLib writes the fields into an ID3v2 chunk, and the common ones into the RIFF INFO chunk too, behind the samples,
which stay as they are:

=====================  ==============================================================================================
TITLE                  ``Prompt 7``
TRACKNUMBER            ``7/25``: the prompt and how many there are
ARTIST, ALBUM          the voice
DATE                   the day the voice was made
LANGUAGE               ISO 639-2, as ID3 wants it
LYRICS, COMMENT        the transcript: LYRICS is where players show words, COMMENT is what every program reads
COPYRIGHT              whose voice it is and that it may not be used without consent
VOICECLONE_CONSENT     who agreed to what, and when
VOICECLONE_HISTORY     the clip's row of ``clips.csv`` as JSON, from which `rebuild` makes the table again
=====================  ==============================================================================================
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import AudioError, VoiceError
from .files import atomic_path
from .voice import LATER_COLUMNS, Clip

if TYPE_CHECKING:
    from .voice import Voice

HISTORY = "VOICECLONE_HISTORY"
CONSENT = "VOICECLONE_CONSENT"
ISO_639_2 = {"en": "eng", "de": "deu", "es": "spa", "fr": "fra", "it": "ita", "ja": "jpn", "pt": "por"}


@dataclass(frozen=True)
class Tags:
    """What a tagged clip says of itself."""

    title: str
    track: str  # "7/25"
    artist: str
    album: str
    date: str  # ISO 8601 day
    language: str  # ISO 639-2
    transcript: str
    copyright: str
    consent: str
    clip: Clip  # the row of clips.csv that the history holds

    def as_dict(self) -> dict[str, str]:
        """One row of a table."""
        row = {"id": self.clip.id} | {f.name: getattr(self, f.name) for f in fields(self) if f.name != "clip"}
        return row | {"take": self.clip.take, "source": self.clip.source, "state": self.clip.state}


def tag(voice: Voice, *, progress: Callable[[int, int], None] | None = None) -> tuple[Tags, ...]:
    """Write the tags of every cleaned clip, and ``metadata.csv``. Clips whose tags are right are not touched.

    Parameters
    ----------
    voice : Voice
        The voice folder; its clips are cleaned.
    progress : callable, optional
        Called with clips done and clips in all.

    Returns
    -------
    tuple of Tags
        As read back from the files, one a clip.

    Raises
    ------
    VoiceError
        If no clip is cleaned.
    """
    clips = [clip for clip in voice.clips if voice.clip_path(clip.id).exists()]
    if not clips:
        raise VoiceError(f"{voice.name} has no cleaned clips to tag: clean them first (notebook 03).")
    tags = []
    for done, clip in enumerate(clips, 1):
        path = voice.clip_path(clip.id)
        wanted = _fields(voice, clip, total=len(voice.clips))
        if _read(path) != wanted:
            _write(path, wanted)
        tags.append(read_tags(path))
        if progress:
            progress(done, len(clips))
    voice.write_metadata()
    return tuple(tags)


def read_tags(path: str | Path) -> Tags:
    """Read what a clip says of itself.

    Raises
    ------
    AudioError
        If the file cannot be read, or is no clip that `tag` has written.
    """
    found = {name: " ".join(values) for name, values in _read(Path(path)).items()}
    try:
        history = dict.fromkeys(LATER_COLUMNS, "") | json.loads(found[HISTORY])
        clip = Clip(**{field.name: str(history[field.name]) for field in fields(Clip)})
    except (KeyError, ValueError, TypeError, VoiceError) as error:
        raise AudioError(
            f"{path} carries no history that can be read ({error!r}). "
            "Tag it again: voiceclone.tag.tag(voice), notebook 04."
        ) from error
    return Tags(
        title=found.get("TITLE", ""),
        track=found.get("TRACKNUMBER", ""),
        artist=found.get("ARTIST", ""),
        album=found.get("ALBUM", ""),
        date=found.get("DATE", ""),
        language=found.get("LANGUAGE", ""),
        transcript=found.get("LYRICS", ""),
        copyright=found.get("COPYRIGHT", ""),
        consent=found.get(CONSENT, ""),
        clip=clip,
    )


def table(voice: Voice) -> list[dict[str, str]]:
    """The tags of all tagged clips, read from the files, as rows of a table."""
    return [tags.as_dict() for tags, _ in _tagged(voice) if tags]


def rebuild(voice: Voice) -> tuple[Clip, ...]:
    """Make ``clips.csv`` and ``metadata.csv`` again from the tagged clips alone.

    A clip's own word counts more than the old table; of that only rows stay which have no clip, if it can be read.

    Raises
    ------
    VoiceError
        If a clip carries no history: it is named, and the rows of all the others are written.
    """
    read = _tagged(voice)
    if not read:
        raise VoiceError(f"{voice.clips_dir} holds no clips to rebuild the tables from. Clean and tag some first.")
    clips = tuple(tags.clip for tags, _ in read if tags)
    try:
        rows = {clip.id: clip for clip in voice.clips}
    except VoiceError:  # the table is what is broken
        rows = {}
    if clips:
        voice.replace_clips((rows | {clip.id: clip for clip in clips}).values())
        voice.write_metadata()
    if lost := [problem for _, problem in read if problem]:
        listed = "\n".join(lost)
        raise VoiceError(f"{len(clips)} of {len(read)} clips are back in the tables. Of the others:\n{listed}")
    return clips


def _tagged(voice: Voice) -> list[tuple[Tags | None, str]]:
    """Tags of each clip in the folder, or why there are none."""
    read = []
    for path in sorted(voice.clips_dir.glob("[0-9]*.wav")):
        try:
            read.append((read_tags(path), ""))
        except AudioError as error:
            read.append((None, str(error)))
    return read


def _fields(voice: Voice, clip: Clip, *, total: int) -> dict[str, list[str]]:
    consent = voice.consent
    values = {
        "TITLE": f"Prompt {clip.number}",
        "TRACKNUMBER": f"{clip.number}/{max(total, clip.number)}",
        "ARTIST": voice.name,
        "ALBUM": f"Voice of {voice.name}",
        "DATE": voice.created[:10],
        "LANGUAGE": ISO_639_2.get(voice.language, voice.language),
        "LYRICS": clip.transcript,
        "COMMENT": clip.transcript,
        "COPYRIGHT": f"Recording of {consent.who}'s voice. Not to be used without their consent.",
        CONSENT: f"{consent.who}, {consent.when}: {consent.agreed}",
        HISTORY: json.dumps(asdict(clip), ensure_ascii=False),
    }
    return {name: [value] for name, value in values.items() if value}


def _read(path: Path) -> dict[str, list[str]]:
    import taglib

    try:
        with taglib.File(path) as file:
            return dict(file.tags)
    except OSError as error:
        raise AudioError(f"{path} is not a sound file whose tags can be read ({error}). Clean it again.") from error


def _write(path: Path, tags: dict[str, list[str]]) -> None:
    """Put the tags into a copy that then takes the file's place, so that a crash leaves the old or the new.

    The copy is tagged in the system's temporary folder: TagLib does not say when a disk is full, Python does.
    """
    import taglib

    with atomic_path(path) as temporary, tempfile.TemporaryDirectory() as folder:
        copy = shutil.copyfile(path, Path(folder, path.name))
        with taglib.File(copy) as file:
            file.tags = tags
            file.save()
        if _read(copy) != tags:
            raise AudioError(f"{path}: TagLib could not write {', '.join(tags)}. Is the temporary folder full?")
        shutil.copyfile(copy, temporary)
