"""Takes: what is found wrong with them, and that none is ever changed, lost or taken for another."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from talk import RATE, talk

from voiceclone import VoiceCloneError
from voiceclone.audio import load
from voiceclone.errors import AudioError, UnavailableError, VoiceError
from voiceclone.prompts import PROMPTS
from voiceclone.record import (
    add_take,
    check_take,
    choose_take,
    import_takes,
    microphones,
    record_take,
)

TEN_WORDS = "The quick brown fox jumps over one very lazy dog."  # 40 letters: 1.3 to 9.5 s


def kinds(report) -> list[str]:
    return [problem.kind for problem in report.problems]


# Checking


def test_a_good_take_has_no_problem_and_its_levels_are_those_it_was_made_with():
    report = check_take(talk(3, level=-20, noise=-65), RATE, TEN_WORDS)
    assert report.ok and not report.problems and report.checks == ""
    assert report.seconds == pytest.approx(4.0)
    assert report.speech_seconds == pytest.approx(3.0, abs=0.05)
    assert report.level_dbfs == pytest.approx(-20, abs=1)
    assert report.noise_dbfs == pytest.approx(-65, abs=1.5)
    assert report.snr_db == pytest.approx(45, abs=2)
    assert report.clipped == 0


@pytest.mark.parametrize(
    ("wave", "prompt", "kind"),
    [
        (np.clip(talk() * 12, -1, 1), None, "clipped"),
        (np.clip(talk() * 12, -1, 1) * 0.3, None, "clipped"),  # turned down afterwards
        (talk(level=-50, noise=-90), None, "quiet"),
        (talk(level=-7.5, noise=-50), None, "loud"),
        (talk(noise=-35), None, "noisy"),
        (np.zeros(RATE, np.float32), None, "silent"),
        (talk(noise=-30, level=-90), None, "silent"),  # only the room
        (talk(0.6), TEN_WORDS, "short"),
        (talk(11), TEN_WORDS, "long"),
        (np.zeros(0, np.float32), None, "empty"),
        (np.full(RATE, np.nan, np.float32), None, "not-a-number"),
    ],
)
def test_a_bad_take_is_told_what_is_wrong_with_it(wave, prompt, kind):
    report = check_take(wave, RATE, prompt)
    assert kind in kinds(report)
    assert not report.ok
    message = next(problem.message for problem in report.problems if problem.kind == kind)
    assert ":" in message and message in report.checks  # what was found: what to do


def test_the_clipped_samples_are_counted_exactly():
    wave = talk()
    limit = np.sort(np.abs(wave))[-400]
    report = check_take(np.clip(wave, -limit, limit), RATE)
    assert 200 <= report.clipped <= 400  # those of the 400 that stand in runs of three and more


def test_a_low_rate_is_warned_of_but_does_not_forbid_the_take():
    report = check_take(talk(rate=8000), 8000, TEN_WORDS)
    assert kinds(report) == ["rate"] and report.ok and "8000 Hz" in report.checks


def test_a_click_far_from_the_speech_is_not_taken_for_speech():
    wave = talk(2, before=1.0, after=1.0)
    wave[round(3.8 * RATE) : round(3.81 * RATE)] += 0.3
    assert check_take(wave, RATE).speech_seconds == pytest.approx(2.0, abs=0.05)


def test_a_real_take_passes(sample_takes):
    wave, rate = load(sample_takes / "0001-1.flac", sample_rate=None)
    assert check_take(wave, rate, PROMPTS[0]).ok


def test_the_sample_voices_clipped_take_is_found_and_its_retake_is_chosen(voice, sample_takes):
    bad, good = import_takes(voice, [sample_takes / "0009-1.flac", sample_takes / "0009-2.flac"])
    assert "clipped" in kinds(bad) and good.ok
    assert (voice.clip("0009").take, voice.clip("0009").state) == ("0009-2.wav", "accepted")


# Importing


def test_a_flac_becomes_a_wav_with_the_same_samples_and_rate(voice, tmp_path):
    samples = (talk(rate=48000) * 2**23).astype(np.int32) << 8  # 24 bits, in the upper part of 32
    soundfile.write(tmp_path / "0003-1.flac", samples, 48000, subtype="PCM_24")
    (report,) = import_takes(voice, [tmp_path / "0003-1.flac"])
    kept, rate = soundfile.read(voice.takes_dir / "0003-1.wav", dtype="int32")
    assert rate == 48000 and np.array_equal(kept, samples)
    assert report.take == "0003-1.wav" and voice.clip("0003").take == "0003-1.wav"
    assert voice.clip("0003").state == "accepted" and voice.clip("0003").transcript == PROMPTS[2]
    assert voice.clip("0004").state == "missing"


def test_a_wav_is_copied_byte_for_byte(voice, tmp_path):
    source = tmp_path / "0001-1.wav"
    soundfile.write(source, np.stack([talk(), talk(seed=1)], axis=1), RATE, subtype="FLOAT")
    import_takes(voice, tmp_path)
    assert (voice.takes_dir / "0001-1.wav").read_bytes() == source.read_bytes()


def test_other_names_go_to_the_prompts_in_the_order_people_sort(voice, tmp_path):
    folder = tmp_path / "from my phone"
    folder.mkdir()
    for number in (10, 2, 1):
        soundfile.write(folder / f"Aufnahme über {number}.wav", talk(2 + number / 10), RATE)
    reports = import_takes(voice, folder)
    assert [report.take for report in reports] == ["0001-1.wav", "0002-1.wav", "0003-1.wav"]
    assert [round(report.seconds, 1) for report in reports] == [3.1, 3.2, 4.0]


def test_an_import_repeated_changes_nothing_and_a_second_folder_goes_on_where_the_first_ended(voice, tmp_path):
    for folder, seeds in (("a", (1, 2)), ("b", (3,))):
        (tmp_path / folder).mkdir()
        for seed in seeds:
            soundfile.write(tmp_path / folder / f"take{seed}.wav", talk(seed=seed), RATE)
    import_takes(voice, tmp_path / "a")
    table = (voice.path / "clips.csv").read_bytes()
    import_takes(voice, tmp_path / "a")
    assert (voice.path / "clips.csv").read_bytes() == table
    assert [report.take for report in import_takes(voice, tmp_path / "b")] == ["0003-1.wav"]


def test_the_latest_take_that_passes_is_chosen_else_the_latest(voice, tmp_path):
    bad = np.clip(talk() * 12, -1, 1)
    for name, wave in (("0001-1", bad), ("0001-2", talk()), ("0001-3", -bad), ("0002-1", bad), ("0002-2", -bad)):
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE)
    import_takes(voice, tmp_path)
    assert (voice.clip("0001").take, voice.clip("0001").state) == ("0001-2.wav", "accepted")
    assert (voice.clip("0002").take, voice.clip("0002").state) == ("0002-2.wav", "review")
    assert "clipped" in voice.clip("0002").checks


def test_a_take_is_never_overwritten(voice, tmp_path):
    add_take(voice, "0001", talk(seed=1), RATE)
    first = (voice.takes_dir / "0001-1.wav").read_bytes()
    soundfile.write(tmp_path / "0001-1.wav", talk(seed=2), RATE)
    (report,) = import_takes(voice, tmp_path / "0001-1.wav")
    assert report.take == "0001-2.wav"
    assert (voice.takes_dir / "0001-1.wav").read_bytes() == first


def test_a_bad_file_is_named_when_all_the_others_are_in(voice, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "0001-1.wav").write_text("this is a text")
    soundfile.write(folder / "0002-1.wav", talk(), RATE)
    soundfile.write(folder / "0999-1.wav", talk(seed=1), RATE)
    with pytest.raises(AudioError, match=r"(?s)2 of 3 files .*0001-1\.wav.*0999-1\.wav: there is no prompt 999"):
        import_takes(voice, folder)
    assert [clip.id for clip in voice.clips if clip.take] == ["0002"]
    assert [path.name for path in voice.takes_dir.iterdir()] == ["0002-1.wav"]


def test_a_new_take_forgets_what_was_known_of_the_old_one(voice):
    add_take(voice, "0001", talk(seed=1), RATE)
    known = {"heard": "other words", "heard_by": "x", "transcript": "by hand", "source": "hand", "cleaned": "y"}
    voice.update(replace(voice.clip("0001"), **known))
    voice.clips_dir.mkdir()
    voice.clip_path("0001").write_bytes(b"made of the old take")
    add_take(voice, "0001", talk(seed=2), RATE)
    clip = voice.clip("0001")
    assert (clip.take, clip.heard, clip.transcript, clip.source, clip.cleaned) == (
        "0001-2.wav", "", PROMPTS[0], "prompt", "")  # fmt: skip
    assert not voice.clip_path("0001").exists()


def test_a_take_chosen_by_hand_stays_chosen_when_nothing_new_comes(voice, tmp_path):
    for number in (1, 2):
        soundfile.write(tmp_path / f"0001-{number}.wav", talk(seed=number), RATE)
    import_takes(voice, tmp_path)
    choose_take(voice, "0001", "0001-1.wav")
    import_takes(voice, tmp_path)
    assert voice.clip("0001").take == "0001-1.wav"


@pytest.mark.parametrize("name", ["0001-9.wav", "../voice.json", "0002-1.wav"])
def test_only_a_take_of_the_clip_can_be_chosen(voice, name):
    add_take(voice, "0001", talk(), RATE)
    with pytest.raises(VoiceError, match="0001-1.wav"):
        choose_take(voice, "0001", name)


def test_a_clip_beyond_the_prompts_needs_its_prompt(voice):
    with pytest.raises(VoiceError, match="no prompt '0900'"):
        add_take(voice, "0900", talk(), RATE)
    assert add_take(voice, "0900", talk(), RATE, prompt="One more sentence, my own.").ok
    assert voice.clip("0900").transcript == "One more sentence, my own."


# The microphone


class FakePortAudio(SimpleNamespace):
    """A sound system with one input that always hears the same."""

    PortAudioError = OSError

    def query_devices(self, device=None, kind=None):
        one = {"name": "Built-in", "max_input_channels": 1, "default_samplerate": 44100.0}
        return one if kind else [one, {"name": "Speakers", "max_input_channels": 0}]

    def rec(self, frames, *, samplerate, channels, dtype, device):
        assert (samplerate, channels, dtype) == (44100, 1, "float32")
        return talk(1.8, rate=44100, before=0.1, after=0.1)[:frames, None]

    def wait(self):
        pass


def test_a_recording_becomes_a_take_at_the_microphones_own_rate(voice, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", FakePortAudio())
    assert microphones() == ("Built-in",)
    report = record_take(voice, "0002", seconds=2)
    assert report.take == "0002-1.wav" and report.seconds == 2
    assert soundfile.info(voice.takes_dir / "0002-1.wav").samplerate == 44100
    assert voice.clip("0002").take == "0002-1.wav"


def test_without_a_sound_system_it_is_said_how_to_bring_files_in(voice, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert microphones() == ()
    with pytest.raises(UnavailableError, match="import_takes"):
        record_take(voice, "0001", seconds=1)


def test_without_a_microphone_nothing_is_lost_and_it_is_said(voice):
    if microphones():
        pytest.skip("this machine has a microphone")
    with pytest.raises(VoiceCloneError, match="import_takes"):
        record_take(voice, "0001", seconds=1)
    assert voice.clips == ()
