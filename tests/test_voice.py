"""The voice folder: what is put in comes out, for people with a spreadsheet too, and damage is named."""

from __future__ import annotations

import csv
import json
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from voiceclone import Clip, Consent, Voice
from voiceclone.audio import save
from voiceclone.errors import VoiceError
from voiceclone.voice import COLUMNS, CONSENT_STATEMENT, folder_name

AWKWARD = 'She said "no, thanks";\nthen, | left – Zoë.'


def sound(path, seed=0):
    return save(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 200))


def ready(voice, *numbers):
    """Clips that training may use."""
    for number in numbers:
        clip = Clip(f"{number:04d}", transcript=f"This is sentence {number}.", state="accepted")
        sound(voice.clip_path(clip.id), number)
        voice.update(clip)


# Making and opening -----------------------------------------------------------------------------------------------


def test_a_made_voice_opens_as_it_was_made(tmp_path):
    consent = Consent("Zoë Łukasz", "2026-01-02T03:04:05+00:00", "I agree.")
    made = Voice.create("Zoë", root=tmp_path / "voices", consent=consent, language="pl")
    opened = Voice.open(str(made.path))
    for voice in (made, opened):
        assert (voice.name, voice.language, voice.consent, voice.created) == ("Zoë", "pl", consent, consent.when)
        assert voice.clips == () and voice.usable() == ()
    assert "Zoë" in (made.path / "voice.json").read_text(encoding="utf-8")


def test_a_name_as_consent_agrees_to_the_statement_now(tmp_path):
    voice = Voice.create("a", root=tmp_path, consent="  Ada Lovelace ")
    assert (voice.consent.who, voice.consent.agreed) == ("Ada Lovelace", CONSENT_STATEMENT)
    age = datetime.now().astimezone() - datetime.fromisoformat(voice.consent.when)
    assert abs(age.total_seconds()) < 60


@pytest.mark.parametrize("consent", ["", "  ", Consent("", "2026-01-01"), Consent(" ", ""), Consent("Me", "now", "")])
def test_without_consent_nothing_is_made(tmp_path, consent):
    with pytest.raises(VoiceError, match="consent of the person"):
        Voice.create("a", root=tmp_path / "voices", consent=consent)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="consent"):
        Voice.create("a", root=tmp_path / "voices")


def test_making_a_voice_again_opens_it_and_changes_nothing(tmp_path):
    first = Voice.create("a", root=tmp_path, consent="First Person", language="en")
    first.update(Clip("0001", prompt="Hello."))
    before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    again = Voice.create(" a ", root=tmp_path, consent="Somebody Else", language="de")
    assert (again.consent, again.language, again.clips) == (first.consent, "en", first.clips)
    assert {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()} == before


def test_voices_are_listed_by_name_and_other_folders_are_not(tmp_path):
    for name in ("b", "a", "c d"):
        Voice.create(name, root=tmp_path, consent="Me")
    (tmp_path / "no voice").mkdir()
    assert [voice.name for voice in Voice.list(tmp_path)] == ["a", "b", "c d"]
    assert Voice.list(tmp_path / "nowhere") == []


def test_a_voice_that_is_not_there_is_told_with_those_that_are(tmp_path):
    for name in ("alice", "bob"):
        Voice.create(name, root=tmp_path, consent="Me")
    (tmp_path / "bob" / "voice.json").write_text("{")  # damage to one voice is no matter of another
    with pytest.raises(VoiceError, match="no voice at .*alcie.*: alice, bob"):
        Voice.open(tmp_path / "alcie")
    with pytest.raises(VoiceError, match="no voice at .*: none"):
        Voice.open(tmp_path / "nowhere" / "alice")


DAMAGED = {
    "empty": b"",
    "half": b'{"schema": 1, "name": "a", "lang',
    "binary": bytes(range(128, 256)),
    "list": b"[]",
    "no-name": b'{"schema": 1}',
    "schema-as-text": b'{"schema": "1"}',
    "no-consent": b'{"schema": 1, "name": "a", "language": "en", "consent": null, "created": ""}',
    "odd-consent": b'{"schema": 1, "name": "a", "language": "en", "consent": {"by": "x"}, "created": ""}',
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_voice_file_is_named_and_left_alone(voice, kind):
    file = voice.path / "voice.json"
    file.write_bytes(DAMAGED[kind])
    for attempt in (
        lambda: Voice.open(voice.path),
        lambda: Voice.create(voice.name, root=voice.path.parent, consent="Me"),
    ):
        with pytest.raises(VoiceError, match=r"voice\.json is damaged"):
            attempt()
    assert file.read_bytes() == DAMAGED[kind]


def test_a_voice_of_a_newer_program_asks_for_an_update(voice):
    file = voice.path / "voice.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"schema": 2, "consent": ["in", "another", "form"]}), encoding="utf-8")
    with pytest.raises(VoiceError, match=r"schema 2.*knows 1.*Update voiceclone"):
        Voice.open(voice.path)


# Names of folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Zoë", "José María", "声", "नमस्ते", "a-b_c.d 2", "x" * 80])
def test_letters_of_any_script_make_a_folder(tmp_path, name):
    assert folder_name(f" {name}\n") == name
    (tmp_path / folder_name(name)).mkdir()


def test_the_two_spellings_of_an_accent_are_one_name():
    assert folder_name(unicodedata.normalize("NFD", "Zoë")) == folder_name("Zoë") == "Zo\u00eb"


@pytest.mark.parametrize(
    "name",
    ["", "  ", ".", "..", "../x", "/etc", "a/b", "a\\b", ".hidden", "dot.", "C:", "a\0", "a\nb", "a*", "a?", "x" * 81],
)
def test_names_that_lead_elsewhere_or_fit_no_system_are_refused(voice, name):
    for attempt in (folder_name, voice.run_dir):
        with pytest.raises(VoiceError, match="cannot be the name of a folder"):
            attempt(name)


# Takes ------------------------------------------------------------------------------------------------------------


def test_takes_are_in_the_order_they_were_recorded_beyond_nine(voice):
    for number in range(1, 11):
        path = voice.next_take_path("0001")
        assert path == voice.path / "takes" / f"0001-{number}.wav" and not path.exists()
        path.touch()
    (voice.takes_dir / "0002-3.wav").touch()
    for other in ("0001-x.wav", "0001-2.flac", "0001.wav", ".0001-11.wav", "00011-1.wav"):
        (voice.takes_dir / other).touch()
    assert [path.name for path in voice.takes("0001")] == [f"0001-{number}.wav" for number in range(1, 11)]
    assert voice.next_take_path("0001").name == "0001-11.wav"
    assert voice.next_take_path("0002").name == "0002-4.wav"
    assert voice.takes("0003") == [] and voice.next_take_path("0003").name == "0003-1.wav"


def test_a_lost_take_in_between_is_never_filled(voice):
    for number in (1, 3):
        (voice.takes_dir / f"0001-{number}.wav").touch()
    assert voice.next_take_path("0001").name == "0001-4.wav"


def test_a_clip_without_a_take_says_so(voice):
    with pytest.raises(VoiceError, match="0007 has no take"):
        voice.take_path(Clip("0007"))
    assert voice.take_path(Clip("0007", take="0007-2.wav")) == voice.takes_dir / "0007-2.wav"


# The table of clips -----------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_put_in_whatever_their_text(voice):
    clips = [
        Clip("0010", prompt=AWKWARD, transcript="'quoted', \"twice\"\ttab", checks="a; b", source="hand"),
        Clip("0002", prompt=" outer spaces ", state="rejected"),
        Clip("0001", prompt="=1+2", heard="#N/A", hash="0123456789abcdef", take="0001-1.wav"),
    ]
    voice.update(*clips)
    assert Voice.open(voice.path).clips == tuple(reversed(clips))
    with (voice.path / "clips.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS and rows[3][1] == AWKWARD


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_line_ends_of_other_systems_become_plain_ones(voice, end):
    voice.update(Clip("0001", prompt=f"one{end}two"), Clip("0002", prompt="three"))
    assert [clip.prompt for clip in voice.clips] == ["one\ntwo", "three"]


def test_update_changes_its_rows_and_no_others(voice):
    voice.update(Clip("0001", prompt="one"), Clip("0002", prompt="two"))
    voice.update(replace(voice.clip("0002"), state="review"), Clip("0003"))
    assert [(clip.id, clip.prompt, clip.state) for clip in voice.clips] == [
        ("0001", "one", "missing"),
        ("0002", "two", "review"),
        ("0003", "", "missing"),
    ]
    with pytest.raises(VoiceError, match="no clip 0009; it has 0001, 0002, 0003"):
        voice.clip("0009")


def test_threads_that_update_at_once_lose_no_row(voice):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: voice.update(Clip(f"{number:04d}")), range(1, 41)))
    assert [clip.number for clip in voice.clips] == list(range(1, 41))


def respell(voice, *, encoding="utf-8-sig", change=lambda rows: rows, **form):
    """Save ``clips.csv`` as a spreadsheet does: a byte-order mark, CRLF, its own order of rows and columns."""
    file = voice.path / "clips.csv"
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.reader(opened))
    with file.open("w", newline="", encoding=encoding) as opened:
        csv.writer(opened, **form).writerows(change(rows))


@pytest.fixture
def table(voice):
    voice.update(Clip("0001", prompt=AWKWARD), Clip("0002", prompt="two", state="accepted"), Clip("0012"))
    return voice


@pytest.mark.parametrize("form", [{}, {"quoting": csv.QUOTE_ALL}, {"encoding": "utf-8", "lineterminator": "\n"}])
def test_a_table_saved_by_a_spreadsheet_is_the_same_table(table, form):
    clips = table.clips
    respell(table, **form)
    assert table.clips == clips
    table.update(Clip("0013"))
    assert table.clips == (*clips, Clip("0013"))


def test_rows_and_columns_may_be_moved_and_added(table):
    clips = table.clips
    respell(table, change=lambda rows: [[*reversed(row), "my notes"] for row in (rows[0], *reversed(rows[1:]))])
    assert table.clips == clips


def test_ids_that_a_spreadsheet_took_for_numbers_are_understood(table):
    clips = table.clips
    respell(table, change=lambda rows: [[row[0].lstrip("0"), *row[1:]] for row in rows])
    assert (table.path / "clips.csv").read_text(encoding="utf-8-sig").splitlines()[1].startswith("1,")
    assert table.clips == clips


def put(row, column, value):
    def change(rows):
        rows[row][COLUMNS.index(column)] = value
        return rows

    return change


# The prompt of clip 0001 goes over two lines of the file: clip 0002 is on line 4, clip 0012 on line 5.
WRONG = {
    "unknown-state": (put(2, "state", "acepted"), r"line 4: .*0002 has state 'acepted'; .*missing, accepted"),
    "empty-state": (put(3, "state", ""), r"line 5: .*0012 has state ''"),
    "doubled": (put(3, "id", "0002"), r"line 5: clip 0002 is there twice"),
    "doubled-as-number": (put(3, "id", "2"), r"line 5: clip 0002 is there twice"),
    "empty-id": (put(2, "id", ""), r"line 4: '' is no clip id"),
    "odd-id": (put(2, "id", "../1"), r"line 4: '\.\./1' is no clip id"),
    "long-id": (put(2, "id", "00002"), r"line 4: '00002' is no clip id"),
    "short-row": (lambda rows: [*rows[:3], rows[3][:5]], r"line 5: .*0012 has state ''"),
    "no-column": (lambda rows: [row[:1] + row[2:-1] for row in rows], r"lacks the columns prompt, state"),
    "no-header": (lambda rows: rows[1:], "lacks the columns"),
    "nothing": (lambda rows: [], "lacks the columns"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_table_is_named_with_its_line_and_not_written_over(table, kind):
    change, message = WRONG[kind]
    respell(table, change=change)
    file = table.path / "clips.csv"
    before = file.read_bytes()
    with pytest.raises(VoiceError, match=rf"clips\.csv.*{message}.*tag\.rebuild"):
        _ = table.clips
    with pytest.raises(VoiceError):
        table.update(Clip("0001"))
    assert file.read_bytes() == before


def test_a_quotation_that_never_ends_does_not_swallow_the_rows_after_it(table):
    file = table.path / "clips.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("0002,two", '0002,"two'), encoding="utf-8")
    with pytest.raises(VoiceError, match=r"clips\.csv, line \d: unexpected end"):
        _ = table.clips


def test_semicolons_and_another_encoding_are_told_from_damage(table):
    respell(table, delimiter=";")
    with pytest.raises(VoiceError, match="lacks the columns"):
        _ = table.clips
    table.replace_clips([Clip("0001", prompt="Zoë")])
    respell(table, encoding="cp1252")
    with pytest.raises(VoiceError, match=r"clips\.csv is not UTF-8.*'CSV UTF-8'"):
        _ = table.clips


# What training gets -----------------------------------------------------------------------------------------------


def test_usable_are_accepted_clips_with_their_text_and_sound(voice):
    ready(voice, 1, 2, 3, 4, 5)
    voice.update(
        replace(voice.clip("0002"), state="review"),
        replace(voice.clip("0003"), state="rejected"),
        replace(voice.clip("0004"), transcript=""),
    )
    voice.clip_path("0005").unlink()
    assert [clip.id for clip in voice.usable()] == ["0001"]
    assert "1 clips ready" in repr(voice)


def test_metadata_are_the_usable_clips_for_any_reader_of_ljspeech(voice):
    ready(voice, 1, 2, 3)
    voice.update(
        replace(voice.clip("0002"), state="rejected"),
        replace(voice.clip("0003"), transcript='"Dr. Smith" paid $3.50,\nthen | left.'),
    )
    path = voice.write_metadata()
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    assert [row[:2] for row in rows] == [
        ["0001", "This is sentence 1."],
        ["0003", '"Dr. Smith" paid $3.50, then left.'],
    ]
    assert rows[0][2] == "This is sentence one."
    assert "doctor smith" in rows[1][2].lower() and "three dollars" in rows[1][2]
    assert path.read_bytes().count(b"\n") == 2


def test_the_content_hash_changes_with_text_or_sound_alone(voice):
    ready(voice, 1, 2)
    seen = [voice.content_hash()]
    voice.update(
        replace(voice.clip("0001"), heard="other", heard_by="x", checks="y", source="hand", prompt="z"),
        Clip("0003", transcript="not accepted", state="review"),
    )
    sound(voice.clip_path("0003"), 3)
    assert voice.content_hash() == seen[0] == Voice.open(voice.path).content_hash()
    voice.update(replace(voice.clip("0001"), transcript="This is sentence one!"))
    seen.append(voice.content_hash())
    sound(voice.clip_path("0002"), 9)
    seen.append(voice.content_hash())
    voice.update(replace(voice.clip("0003"), state="accepted"))
    seen.append(voice.content_hash())
    voice.update(replace(voice.clip("0001"), state="rejected"))
    seen.append(voice.content_hash())
    assert len(set(seen)) == len(seen)


def test_tags_do_not_change_the_content_hash(voice):
    from voiceclone.tag import tag

    ready(voice, 1, 2)
    before = voice.content_hash()
    content = voice.clip_path("0001").read_bytes()
    tag(voice)
    assert voice.clip_path("0001").read_bytes() != content
    assert voice.content_hash() == before


def test_everything_lies_in_the_voices_folder(voice):
    places = (voice.takes_dir, voice.clips_dir, voice.runs_dir, voice.samples_dir, voice.exports_dir)
    assert [place.name for place in places] == ["takes", "clips", "runs", "samples", "exports"]
    files = (voice.metadata_path, voice.report_path, voice.clip_path("0001"), voice.run_dir("main"))
    assert all(voice.path in place.parents for place in (*places, *files))
