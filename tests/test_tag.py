"""Tags: other programs read what we wrote, the sound stays as it was, and the tables come back from the clips alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
import soundfile
from talk import talk

from voiceclone import Voice
from voiceclone.audio import save
from voiceclone.errors import AudioError, VoiceError
from voiceclone.tag import read_tags, rebuild, table, tag
from voiceclone.voice import Clip

TEXT = "Naïve cafés, “odd” quotes; and a % sign / slash."


@pytest.fixture
def cleaned(tmp_path):
    """A voice of two cleaned clips, of 25 prompts, with a name that is not plain."""
    voice = Voice.create("Zoë Łukasz 声", root=tmp_path / "a folder é", consent="Zoë Łukasz")
    for number, text in ((1, "The first sentence."), (7, TEXT)):
        save(voice.clip_path(f"{number:04d}"), 0.5 * talk(1, seed=number), 22050)
        voice.update(
            Clip(
                id=f"{number:04d}", prompt=text, take=f"{number:04d}-2.wav", hash="0123456789abcdef", heard="naive",
                heard_by="whisper:tiny.en@12", transcript=text, source="prompt", cleaned="abc", state="accepted",
            )
        )  # fmt: skip
    voice.update(*(Clip(id=f"{number:04d}", prompt="Not yet.") for number in range(1, 26) if number not in (1, 7)))
    return voice


def test_the_tags_read_back_are_those_of_the_row(cleaned):
    tags = tag(cleaned)[1]
    assert tags == read_tags(cleaned.clip_path("0007"))
    assert (tags.title, tags.track, tags.artist) == ("Prompt 7", "7/25", "Zoë Łukasz 声")
    assert (tags.transcript, tags.language, tags.date) == (TEXT, "eng", cleaned.created[:10])
    assert cleaned.consent.who in tags.consent and cleaned.consent.agreed in tags.consent
    assert tags.clip == cleaned.clip("0007")


def test_mutagen_reads_the_same(cleaned):
    from mutagen.wave import WAVE

    tag(cleaned)
    found = WAVE(cleaned.clip_path("0007")).tags
    assert found["TIT2"].text == ["Prompt 7"]
    assert found["TRCK"].text == ["7/25"]
    assert found["TPE1"].text == ["Zoë Łukasz 声"]
    assert found["TLAN"].text == ["eng"]
    assert str(found["TDRC"].text[0]) == cleaned.created[:10]
    assert [frame.text for frame in found.getall("USLT")] == [TEXT]
    assert [frame.text for frame in found.getall("COMM")] == [[TEXT]]
    assert found["TCOP"].text == [read_tags(cleaned.clip_path("0007")).copyright]
    assert json.loads(found["TXXX:VOICECLONE_HISTORY"].text[0])["heard_by"] == "whisper:tiny.en@12"
    assert "Zoë Łukasz" in found["TXXX:VOICECLONE_CONSENT"].text[0]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed here")
def test_ffprobe_reads_the_same(cleaned):
    tag(cleaned)
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", str(cleaned.clip_path("0007"))]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["format"]
    found = {name.lower(): value for name, value in shown["tags"].items()}
    assert (found["title"], found["artist"], found["comment"]) == ("Prompt 7", "Zoë Łukasz 声", TEXT)
    assert (found["track"], found["language"]) == ("7/25", "eng")
    assert float(shown["duration"]) == pytest.approx(2.0)


def test_tagging_does_not_change_a_sample(cleaned):
    path = cleaned.clip_path("0001")
    before, info = soundfile.read(path, dtype="int16")[0].tobytes(), soundfile.info(path)
    tag(cleaned)
    after = soundfile.info(path)
    assert soundfile.read(path, dtype="int16")[0].tobytes() == before
    assert (after.samplerate, after.frames, after.subtype) == (info.samplerate, info.frames, info.subtype)


def test_only_what_changed_is_written_again(cleaned):
    tag(cleaned)
    stamps = {i: cleaned.clip_path(i).stat().st_mtime_ns for i in ("0001", "0007")}
    cleaned.update(replace(cleaned.clip("0007"), transcript="Another text.", source="hand"))
    tag(cleaned)
    assert cleaned.clip_path("0001").stat().st_mtime_ns == stamps["0001"]
    assert cleaned.clip_path("0007").stat().st_mtime_ns != stamps["0007"]
    assert read_tags(cleaned.clip_path("0007")).transcript == "Another text."


def test_metadata_csv_is_ljspeechs(cleaned):
    cleaned.update(replace(cleaned.clip("0007"), transcript="It cost $5.", state="accepted"))
    tag(cleaned)
    lines = cleaned.metadata_path.read_text(encoding="utf-8").splitlines()
    assert lines[0].split("|")[:2] == ["0001", "The first sentence."]
    assert lines[1].split("|") == ["0007", "It cost $5.", "It cost five dollars."]


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_the_tables_come_back_from_the_clips_alone(cleaned, damage):
    cleaned.update(replace(cleaned.clip("0007"), transcript="Plain text."))
    tag(cleaned)
    rows = {clip.id: clip for clip in cleaned.clips if clip.take}
    metadata = cleaned.metadata_path.read_bytes()
    cleaned.metadata_path.unlink()
    table_file = cleaned.path / "clips.csv"
    table_file.unlink() if damage == "gone" else table_file.write_text("id,prompt\n0001")
    assert {clip.id: clip for clip in rebuild(Voice.open(cleaned.path))} == rows
    assert {clip.id: clip for clip in cleaned.clips} == rows
    assert cleaned.metadata_path.read_bytes() == metadata


def test_rebuilding_keeps_the_rows_that_have_no_clip_yet(cleaned):
    tag(cleaned)
    cleaned.update(replace(cleaned.clip("0001"), transcript="changed by mistake"))
    rebuild(cleaned)
    assert len(cleaned.clips) == 25 and cleaned.clip("0001").transcript == "The first sentence."


def test_rebuilding_names_a_clip_without_tags_and_restores_the_others(cleaned):
    tag(cleaned)
    save(cleaned.clip_path("0001"), talk(1), 22050)
    (cleaned.path / "clips.csv").unlink()
    with pytest.raises(VoiceError, match=r"(?s)1 of 2 clips .*0001\.wav"):
        rebuild(cleaned)
    assert [clip.id for clip in cleaned.clips] == ["0007"]


def test_the_table_has_one_row_a_clip(cleaned):
    tag(cleaned)
    rows = table(cleaned)
    assert [row["id"] for row in rows] == ["0001", "0007"]
    assert rows[1]["title"] == "Prompt 7" and rows[1]["transcript"] == TEXT and rows[1]["take"] == "0007-2.wav"


def test_untagged_and_unreadable_files_are_refused_by_name(cleaned, tmp_path):
    with pytest.raises(AudioError, match="0001.wav carries no history"):
        read_tags(cleaned.clip_path("0001"))
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match="text.wav"):
        read_tags(tmp_path / "text.wav")


def test_a_voice_without_clips_is_told_to_clean_first(voice):
    with pytest.raises(VoiceError, match="notebook 03"):
        tag(voice)
    with pytest.raises(VoiceError, match="no clips"):
        rebuild(voice)
