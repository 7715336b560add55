"""What users bring by mistake: each is met with a message that names it, and nothing that was there is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile
from talk import RATE, talk

from voiceclone import Voice, VoiceCloneError
from voiceclone.audio import load, save
from voiceclone.clean import clean
from voiceclone.errors import AudioError, VoiceError
from voiceclone.record import add_take, import_takes
from voiceclone.tag import read_tags, tag

PACKAGE = Path(__file__).parent.parent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Files


def write_text(path):
    path.write_text("Dear diary, this is no sound.")


def write_truncated(path):
    soundfile.write(path, talk(), RATE)
    path.write_bytes(path.read_bytes()[:60_000])


def write_header_only(path):
    soundfile.write(path, talk(), RATE)
    path.write_bytes(path.read_bytes()[:20])


def write_nan(path):
    wave = talk()
    wave[1000:1010] = np.nan
    soundfile.write(path, wave, RATE, subtype="FLOAT")


BROKEN = {
    "text": write_text,
    "empty-file": lambda path: path.write_bytes(b""),
    "0-samples": lambda path: soundfile.write(path, np.zeros(0), RATE),
    "truncated": write_truncated,
    "header-only": write_header_only,
    "nan": write_nan,
    "infinite": lambda path: soundfile.write(path, np.full(RATE, np.inf, np.float32), RATE, subtype="FLOAT"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_by_name_and_the_good_one_beside_it_is_in(voice, tmp_path, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    BROKEN[kind](folder / "0001-1.wav")
    soundfile.write(folder / "0002-1.wav", talk(), RATE)
    with pytest.raises(AudioError, match=r"0001-1\.wav"):
        load(folder / "0001-1.wav")
    with pytest.raises(AudioError, match=r"(?s)1 of 2 files .*0001-1\.wav"):
        import_takes(voice, folder)
    assert [path.name for path in voice.takes_dir.iterdir()] == ["0002-1.wav"]
    assert [clip.id for clip in voice.clips if clip.take] == ["0002"]


USABLE = {
    "8-khz": ("wav", 8000, "PCM_16", 1),
    "stereo": ("wav", 44100, "PCM_16", 2),
    "24-bit": ("wav", 48000, "PCM_24", 1),
    "32-bit": ("wav", 48000, "PCM_32", 1),
    "float": ("wav", 48000, "FLOAT", 1),
    "double": ("wav", 48000, "DOUBLE", 1),
    "8-bit": ("wav", 22050, "PCM_U8", 1),
    "mp3": ("mp3", 44100, "MPEG_LAYER_III", 1),
    "ogg": ("ogg", 48000, "VORBIS", 2),
    "flac": ("flac", 96000, "PCM_24", 2),
}


@pytest.mark.parametrize("kind", USABLE)
def test_an_unusual_file_becomes_a_take_and_a_clean_clip(voice, tmp_path, kind):
    suffix, rate, subtype, channels = USABLE[kind]
    wave = np.repeat(talk(rate=rate, noise=-50)[:, None], channels, axis=1)
    source = tmp_path / f"0001-1.{suffix}"
    soundfile.write(source, wave, rate, subtype=subtype)
    (report,) = import_takes(voice, source)
    assert report.ok, report.checks
    kept = soundfile.info(voice.takes_dir / "0001-1.wav")
    assert (kept.samplerate, kept.channels) == (rate, channels)
    original, copy = (soundfile.read(path, dtype="float64")[0] for path in (source, voice.takes_dir / "0001-1.wav"))
    assert np.array_equal(original, copy)
    (result,) = clean(voice, workers=1)
    assert result.state == "cleaned" and result.record.seconds_after == pytest.approx(3.1, abs=0.1)
    tag(voice)
    assert read_tags(voice.clip_path("0001")).clip == voice.clip("0001")


@pytest.mark.parametrize(
    ("wave", "word"),
    [(np.zeros(RATE), "zeros"), (np.clip(talk() * 12, -1, 1), "clipped")],
    ids=["all-zero", "clipped"],
)
def test_a_useless_take_is_kept_but_put_up_for_review(voice, tmp_path, wave, word):
    soundfile.write(tmp_path / "0001-1.wav", wave, RATE)
    (report,) = import_takes(voice, tmp_path)
    assert not report.ok
    clip = voice.clip("0001")
    assert clip.state == "review" and word in clip.checks
    assert voice.take_path(clip).exists()


def test_an_empty_folder_and_one_that_is_not_there_are_said_so(voice, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(VoiceError, match="no sound file"):
        import_takes(voice, tmp_path / "empty")
    with pytest.raises(VoiceCloneError, match="nowhere"):
        import_takes(voice, tmp_path / "nowhere")


def test_files_with_spaces_and_accents_in_their_names_are_fine(voice, tmp_path):
    soundfile.write(tmp_path / "größe – prise n° 1 (à garder).wav", talk(), RATE)
    (report,) = import_takes(voice, tmp_path)
    assert report.take == "0001-1.wav"


def test_a_prompt_that_was_not_read_stays_missing_and_the_rest_goes_on(voice, tmp_path):
    for number in (1, 3):
        soundfile.write(tmp_path / f"000{number}-1.wav", talk(seed=number), RATE)
    import_takes(voice, tmp_path, prompts=("The first one here.", "The second one here.", "The third one here."))
    assert [clip.state for clip in voice.clips] == ["accepted", "missing", "accepted"]
    assert [result.id for result in clean(voice, workers=1)] == ["0001", "0003"]


def test_two_takes_of_one_clip_are_both_kept(voice, tmp_path):
    soundfile.write(tmp_path / "0001-1.wav", talk(seed=1), RATE)
    soundfile.write(tmp_path / "0001-1.flac", talk(seed=2), RATE)
    import_takes(voice, tmp_path)
    assert [path.name for path in voice.takes("0001")] == ["0001-1.wav", "0001-2.wav"]


def test_a_take_that_was_damaged_later_does_not_stand_in_the_way(voice, tmp_path):
    add_take(voice, "0001", talk(), RATE)
    (voice.takes_dir / "0001-1.wav").write_text("overwritten by another program")
    soundfile.write(tmp_path / "0002-1.wav", talk(seed=2), RATE)
    import_takes(voice, tmp_path)
    assert voice.clip("0002").state == "accepted"
    states = [(result.id, result.state) for result in clean(voice, workers=1)]
    assert states == [("0001", "failed"), ("0002", "cleaned")]


# Names


@pytest.mark.parametrize("name", ["Zoë Łukasz", "with some spaces", "声", "O.K. voice"])
def test_a_voice_may_have_spaces_and_accents_in_its_name(tmp_path, name):
    voice = Voice.create(name, root=tmp_path, consent="Me")
    add_take(voice, "0001", talk(), RATE)
    clean(voice, workers=1)
    assert tag(voice)[0].artist == name == Voice.open(voice.path).name
    assert voice.path.parent == tmp_path


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "..", "", "a\\b", ".hidden", "nul\0"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(VoiceError, match="cannot be the name"):
        Voice.create(name, root=tmp_path / "voices", consent="Me")
    assert not list(tmp_path.rglob("*.json"))


# A full disk


FULL_DISK = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))  # every write beyond fails, as on a full disk
    from voiceclone import Voice, VoiceCloneError
    try:
        voice = Voice.open({voice!r})
        {work}
    except VoiceCloneError as error:
        print(error)
"""


def on_a_full_disk(voice: Voice, work: str, limit: int) -> str:
    """Run `work` in a process that cannot write files longer than `limit` bytes; what it said."""
    script = textwrap.dedent(FULL_DISK).format(limit=limit, voice=str(voice.path), work=work)
    done = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize(
    "work",
    [
        "from voiceclone.record import import_takes; import_takes(voice, {source!r})",
        "from voiceclone.clean import clean, CleanConfig; clean(voice, CleanConfig(target_lufs=-25), workers=1)",
        "from voiceclone.tag import tag; tag(voice)",
    ],
    ids=["import", "clean", "tag"],
)
def test_a_full_disk_is_said_and_leaves_everything_as_it_was(voice, tmp_path, work):
    source = tmp_path / "0002-1.flac"
    soundfile.write(source, talk(seed=2), RATE)
    add_take(voice, "0001", talk(), RATE)
    clean(voice, workers=1)
    before = contents(voice.path)
    said = on_a_full_disk(voice, work.format(source=str(source)), limit=50_000)
    assert "disk is full" in said
    after = contents(voice.path)
    assert {name: after[name] for name in before if name != "clips.csv"} == {
        name: content for name, content in before.items() if name != "clips.csv"
    }
    assert set(after) == set(before) and voice.clip("0001").take == "0001-1.wav"
    import_takes(voice, source)
    clean(voice, workers=1)
    assert [tags.clip.id for tags in tag(voice)] == ["0001", "0002"]


# Ctrl-C


INTERRUPTED = """
    import os, signal
    from voiceclone import Voice
    from voiceclone import {module} as stage

    def press(done, total):
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    voice = Voice.open({voice!r})
    {work}
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to the whole console")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_while_cleaning_keeps_what_is_done_and_a_second_run_finishes(voice, workers):
    for number in (1, 2, 3, 4):
        add_take(voice, f"000{number}", talk(seed=number), RATE)
    interrupt(voice, "clean", f"stage.clean(voice, workers={workers}, progress=press)")
    whole = [clip.id for clip in voice.clips if clip.cleaned]
    assert whole[:2] == ["0001", "0002"]
    for path in voice.clips_dir.iterdir():
        assert len(load(path)[0]) > 0
    states = [result.state for result in clean(voice, workers=1)]
    assert states[:2] == ["unchanged", "unchanged"] and set(states[2:]) <= {"cleaned", "unchanged"}
    assert len(voice.usable()) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to the whole console")
def test_ctrl_c_while_tagging_leaves_whole_files_and_a_second_run_finishes(voice):
    for number in (1, 2, 3):
        add_take(voice, f"000{number}", talk(seed=number), RATE)
    clean(voice, workers=1)
    interrupt(voice, "tag", "stage.tag(voice, progress=press)")
    assert len(voice.usable()) == 3 and not voice.metadata_path.exists()
    assert [tags.track for tags in tag(voice)] == ["1/3", "2/3", "3/3"]
    assert len(voice.metadata_path.read_text(encoding="utf-8").splitlines()) == 3


def test_ctrl_c_while_importing_enters_what_is_in_and_a_second_run_finishes(voice, tmp_path, monkeypatch):
    for number in (1, 2, 3):
        soundfile.write(tmp_path / f"000{number}-1.flac", talk(seed=number), RATE)
    import voiceclone.record as record

    copy = record._copy

    def copy_and_press(file, target):
        if target.name == "0003-1.wav":
            signal.raise_signal(signal.SIGINT)
        return copy(file, target)

    monkeypatch.setattr(record, "_copy", copy_and_press)
    with pytest.raises(KeyboardInterrupt):
        import_takes(voice, tmp_path)
    assert [clip.id for clip in voice.clips if clip.take] == ["0001", "0002"]
    monkeypatch.undo()
    import_takes(voice, tmp_path)
    assert [clip.id for clip in voice.clips if clip.take] == ["0001", "0002", "0003"]
    assert not [path for path in voice.takes_dir.iterdir() if path.name.startswith(".")]


def interrupt(voice: Voice, module: str, work: str) -> None:
    script = textwrap.dedent(INTERRUPTED).format(module=module, voice=str(voice.path), work=work)
    done = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr
    assert not [path for path in voice.path.rglob(".*") if path.is_file()]


def test_a_sound_beyond_full_scale_is_never_written(tmp_path):
    with pytest.raises(AudioError, match="full scale"):
        save(tmp_path / "a.wav", np.full(100, 1.5), RATE)
    assert not list(tmp_path.iterdir())
