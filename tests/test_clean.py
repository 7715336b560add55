"""Cleaning: held to how the test sounds were made, and to measurements by other code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly
from talk import RATE, talk

from voiceclone.audio import load
from voiceclone.clean import CleanConfig, clean, clean_wave, dataset_report
from voiceclone.errors import AudioError, VoiceError
from voiceclone.prompts import PROMPTS
from voiceclone.record import add_take, choose_take
from voiceclone.transcribe import correct

MARGIN = CleanConfig().margin_seconds


def tone(frequency: float, seconds: float = 2.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


def level_at(wave: np.ndarray, rate: int, frequency: float) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return 20 * np.log10(spectrum[round(frequency * len(wave) / rate)] + 1e-9)


# One wave


@pytest.mark.parametrize("noise", [-90, -65, -45])
@pytest.mark.parametrize(("before", "after"), [(0.2, 1.5), (1.0, 0.3)])
def test_the_trim_keeps_the_speech_and_the_margin_whatever_the_room(noise, before, after):
    wave, record = clean_wave(talk(3, noise=noise, before=before, after=after), RATE)
    assert record.seconds_after == pytest.approx(3 + 2 * MARGIN, abs=0.07)  # a frame at either end
    assert record.seconds_before == pytest.approx(3 + before + after, abs=1e-3)
    assert len(wave) == round(record.seconds_after * RATE)


def test_a_take_without_room_around_it_is_given_the_margin():
    wave, record = clean_wave(talk(3, before=0, after=0, noise=-90), RATE)
    assert record.seconds_after == pytest.approx(3 + 2 * MARGIN, abs=0.06)
    assert np.abs(wave[: round(0.04 * RATE)]).max() == 0


@pytest.mark.parametrize("level", [-40, -26, -18])
def test_every_clip_comes_out_at_the_target_loudness(level):
    from pyloudnorm import Meter

    wave, record = clean_wave(talk(3, level=level, noise=-85), RATE)
    assert Meter(RATE).integrated_loudness(wave.astype(np.float64)) == pytest.approx(-23, abs=0.1)
    assert record.lufs_after == pytest.approx(-23, abs=0.1)
    assert record.held_back_db == 0
    assert record.lufs_before + record.gain_db == pytest.approx(record.lufs_after)


def test_no_peak_passes_the_guard_even_between_the_samples():
    wave = talk(3, level=-30)
    wave[RATE] += 0.5  # a knock that the loudness hardly hears
    cleaned, record = clean_wave(wave, RATE)
    between = resample_poly(cleaned.astype(np.float64), 8, 1)
    assert 20 * np.log10(np.abs(between).max()) == pytest.approx(-1, abs=0.3)
    assert record.held_back_db > 0.5
    assert record.lufs_after == pytest.approx(-23 - record.held_back_db)


def test_rumble_goes_and_the_voice_stays_and_is_not_delayed():
    speech = talk(3, noise=-80)
    rumble = 0.2 * np.pad(tone(25, 4.0), (0, len(speech)))[: len(speech)]
    cleaned, _ = clean_wave((speech + rumble).astype(np.float32), RATE)
    reference, _ = clean_wave(speech, RATE, CleanConfig(highpass_hz=0))
    assert level_at(cleaned, RATE, 25) < level_at(cleaned, RATE, 120) - 50
    size = min(len(cleaned), len(reference))
    correlation = np.fft.irfft(np.fft.rfft(cleaned[:size]) * np.conj(np.fft.rfft(reference[:size])))
    assert correlation.max() > 0.97 * np.linalg.norm(cleaned[:size]) * np.linalg.norm(reference[:size])


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_any_rate_becomes_22050_hz_at_the_same_pitch(rate):
    cleaned, _ = clean_wave(talk(3, rate=rate), rate)
    spectrum = np.abs(np.fft.rfft(cleaned * np.hanning(len(cleaned))))
    assert np.argmax(spectrum) * RATE / len(cleaned) == pytest.approx(120, abs=1)


def test_denoising_lowers_the_room_and_keeps_the_speech():
    noisy = talk(3, noise=-45)
    plain, before = clean_wave(noisy, RATE)
    quiet, after = clean_wave(noisy, RATE, CleanConfig(denoise=True))
    assert after.snr_db > before.snr_db + 6
    assert level_at(quiet, RATE, 240) == pytest.approx(level_at(plain, RATE, 240), abs=1.5)


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (talk(0.2), "0.4 s"),
        (np.zeros(RATE, np.float32), "no speech"),
        (np.zeros(0, np.float32), "record the take again"),
        (np.full(RATE, np.nan, np.float32), "record the take again"),
        (talk(level=-95, noise=-130), "loudness is not defined"),
    ],
)
def test_what_cannot_be_cleaned_is_refused_with_the_reason(wave, message):
    with pytest.raises(AudioError, match=message):
        clean_wave(wave, RATE)


@pytest.mark.parametrize(
    ("name", "value"), [("target_lufs", 3), ("true_peak_dbfs", 1), ("margin_seconds", -1), ("highpass_hz", 900)]
)
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(AudioError, match=f"{name}={value}"):
        CleanConfig(**{name: value})


# A whole voice


@pytest.fixture
def recorded(voice):
    """A voice with three takes."""
    for number in (1, 2, 3):
        add_take(voice, f"{number:04d}", talk(5, rate=32000, level=-18 - 4 * number, seed=number), 32000)
    return voice


def test_clips_are_22050_hz_16_bit_mono_and_equally_loud(recorded):
    from pyloudnorm import Meter

    results = clean(recorded, workers=1)
    assert [(result.id, result.state) for result in results] == [(f"000{n}", "cleaned") for n in (1, 2, 3)]
    for clip in recorded.usable():
        info = soundfile.info(recorded.clip_path(clip.id))
        assert (info.samplerate, info.channels, info.subtype) == (22050, 1, "PCM_16")
        wave, rate = load(recorded.clip_path(clip.id))
        assert Meter(rate).integrated_loudness(wave.astype(np.float64)) == pytest.approx(-23, abs=0.1)


def test_only_what_changed_is_cleaned_again(recorded):
    clean(recorded, workers=1)
    assert {result.state for result in clean(recorded)} == {"unchanged"}
    recorded.clip_path("0001").unlink()
    add_take(recorded, "0002", talk(5, seed=9), RATE)
    assert [result.state for result in clean(recorded)] == ["cleaned", "cleaned", "unchanged"]
    assert {result.state for result in clean(recorded, CleanConfig(margin_seconds=0.1))} == {"cleaned"}


def test_several_processes_make_the_same_clips_as_one(recorded):
    clean(recorded, workers=1)
    alone = [recorded.clip_path(clip.id).read_bytes() for clip in recorded.clips if clip.take]
    recorded.update(*(replace(clip, cleaned="") for clip in recorded.clips))
    seen = []
    clean(recorded, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert [recorded.clip_path(clip.id).read_bytes() for clip in recorded.clips if clip.take] == alone
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_takes_are_not_touched(recorded):
    before = {path.name: path.read_bytes() for path in recorded.takes_dir.iterdir()}
    clean(recorded, workers=1)
    assert {path.name: path.read_bytes() for path in recorded.takes_dir.iterdir()} == before


def test_a_take_that_cannot_be_cleaned_is_put_up_for_review_and_the_others_go_on(recorded):
    add_take(recorded, "0002", np.zeros(RATE, np.float32), RATE)
    choose_take(recorded, "0002", "0002-2.wav")
    states = [result.state for result in clean(recorded, workers=1)]
    assert states == ["cleaned", "failed", "cleaned"]
    clip = recorded.clip("0002")
    assert clip.state == "review" and "no speech" in clip.checks
    assert not recorded.clip_path("0002").exists()


def test_what_is_corrected_and_recorded_while_clips_are_cleaned_stays(recorded):
    def meanwhile(done, total):
        if done == 1:
            correct(recorded, "0001", "Another text.")
            add_take(recorded, "0002", talk(5, seed=9), RATE)

    clean(recorded, workers=1, progress=meanwhile)
    assert recorded.clip("0001").transcript == "Another text." and recorded.clip("0001").cleaned
    assert recorded.clip("0002").take == "0002-2.wav"
    assert not recorded.clip_path("0002").exists()  # that of the take before must not stand for it
    assert [result.state for result in clean(recorded, workers=1)] == ["unchanged", "cleaned", "unchanged"]


def test_rejected_clips_are_left_out(recorded):
    recorded.update(replace(recorded.clip("0003"), state="rejected"))
    assert [result.id for result in clean(recorded, workers=1)] == ["0001", "0002"]


def test_a_voice_without_takes_is_told_to_record(voice):
    with pytest.raises(VoiceError, match="notebook 01"):
        clean(voice)


# The report


def test_the_report_measures_the_clips(recorded):
    clean(recorded, workers=1)
    report = dataset_report(recorded)
    assert report.count == 3 and report.ids == ("0001", "0002", "0003")
    assert report.minutes == pytest.approx(3 * 5.1 / 60, rel=0.02)
    assert report.levels == pytest.approx([-23] * 3, abs=0.1)
    assert min(report.snr_db) > 25
    assert all(3 < rate < 20 for rate in report.speaking_rate)
    assert report.as_dict()["clips"] == 3
    assert any("3 clips of 15 s together are few" in problem for problem in report.problems)


def test_the_report_says_what_to_mend(recorded):
    recorded.update(replace(recorded.clip("0001"), transcript=" ".join(PROMPTS[:4])))  # four sentences in 5 s: no
    clean(recorded, workers=1)
    recorded.update(
        replace(recorded.clip("0002"), state="review", checks="412 samples are clipped"),
        replace(recorded.clip("0003"), transcript=""),
    )
    problems = "\n".join(dataset_report(recorded).problems)
    assert "Clip 0002 is left out until someone looks at it: 412 samples are clipped" in problems
    assert "Clip 0003 has no transcript" in problems
    assert "Sounds that are said fewer than 2 times" in problems


def test_the_report_finds_a_clip_that_does_not_say_its_text(recorded):
    clean(recorded, workers=1)
    recorded.update(replace(recorded.clip("0001"), transcript=" ".join(PROMPTS[:4])))
    assert any(p.startswith("Clip 0001") and "phones a second" in p for p in dataset_report(recorded).problems)


def test_the_report_of_an_empty_voice_says_where_to_begin(voice):
    report = dataset_report(voice)
    assert report.count == 0 and "notebooks 01 to 03" in report.problems[0]


def test_a_real_take_comes_out_whole(sample_takes):
    wave, rate = load(sample_takes / "0001-1.flac", sample_rate=None)
    cleaned, record = clean_wave(wave, rate)
    assert 1 < record.seconds_after < record.seconds_before
    assert record.lufs_after == pytest.approx(-23, abs=0.1) or record.held_back_db > 0
    assert np.abs(cleaned).max() <= 10 ** (-1 / 20) + 1e-4
