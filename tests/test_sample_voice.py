from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from voiceclone.prompts import PROMPTS

DATA = Path(__file__).parent.parent / "data"
TAKES = DATA / "sample_voice" / "takes"
FILES = sorted(TAKES.glob("*.flac"))
CLIPPED, MISREAD = "0009", "0018"
GOOD = [path for path in FILES if path.name not in (f"{CLIPPED}-1.flac", f"{MISREAD}-1.flac")]


def level(wave: np.ndarray) -> float:
    return 20 * np.log10(np.sqrt(np.mean(np.square(wave))))


def frames(wave: np.ndarray, rate: int) -> np.ndarray:
    """RMS in dBFS of every 20 ms."""
    size = rate // 50
    return np.array([level(wave[i:i + size]) for i in range(0, len(wave) - size, size)])


def test_there_is_one_take_a_prompt_and_two_retakes():
    expected = [f"{n:04d}-1.flac" for n in range(1, len(PROMPTS) + 1)] + [f"{CLIPPED}-2.flac", f"{MISREAD}-2.flac"]
    assert [path.name for path in FILES] == sorted(expected)
    assert sum(path.stat().st_size for path in FILES) < 6e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_takes_are_what_a_laptop_records(path):
    info = sf.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (44_100, 1, "PCM_16")
    words = len(PROMPTS[int(path.stem[:4]) - 1].split())
    assert 0.6 < info.duration - 0.6 < 0.7 * words


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_takes_have_silence_noise_and_headroom(path):
    wave, rate = sf.read(path)
    assert np.abs(wave).max() < 0.95
    loud, quiet = np.percentile(frames(wave, rate), [90, 5])
    assert 30 < loud - quiet < 60
    for end in (wave[:int(0.28 * rate)], wave[-int(0.28 * rate):]):  # nobody speaks at either end
        assert level(end) < loud - 25


def test_levels_differ_from_take_to_take():
    levels = [np.percentile(frames(*sf.read(path)), 90) for path in GOOD]
    assert 4 < max(levels) - min(levels) < 14


def test_one_first_take_is_clipped_and_its_retake_is_not():
    wave, _ = sf.read(TAKES / f"{CLIPPED}-1.flac")
    assert np.mean(np.abs(wave) > 0.999) > 0.005
    assert f"{CLIPPED}-2.flac" in [path.name for path in GOOD]


def test_the_script_makes_the_same_takes_from_the_same_speech_and_others_from_another_seed():
    spec = importlib.util.spec_from_file_location("make_sample_voice", DATA / "make_sample_voice.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    speech = np.sin(2 * np.pi * 200 * np.arange(44_100) / 44_100)
    first, again, other = (script.take(speech, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and len(first) != len(other)
    assert 1.6 <= len(first) / 44_100 <= 3.0
    noise = script.room_noise(44_100, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(noise))
    assert script.rms(noise) == pytest.approx(1.0)
    assert spectrum[50] > 5 * np.median(spectrum[20:80])  # the hum stands out
    assert np.mean(spectrum[100:1000]) > 2 * np.mean(spectrum[5000:15000])  # darker than white
    peaky = np.random.default_rng(0).standard_normal(44_100)  # as speech is; a sine has too little to clip
    assert np.mean(np.abs(script.take(peaky, np.random.default_rng(3), overdrive=18.0)) == 1.0) > 0.005


def test_the_readme_names_every_folder_and_licence():
    text = (DATA / "README.md").read_text(encoding="utf-8")
    for expected in ("sample_voice/takes", "Apache-2.0", "make_sample_voice.py", "MIT", CLIPPED, MISREAD):
        assert expected in text
