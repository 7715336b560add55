"""The mark is found in what is marked, and in nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from voiceclone.audio import load
from voiceclone.watermark import CERTAIN, check, confidence, mark


@pytest.fixture(scope="module")
def clip(sample_voice):
    return load(sample_voice.clip_path("0001"))


def test_natural_speech_has_no_mark(sample_voice):
    assert all(confidence(*load(sample_voice.clip_path(clip.id))) < 0.1 for clip in sample_voice.usable())


def test_mark_is_found_and_changes_little(clip):
    wave, rate = clip
    marked = mark(wave, rate)
    assert marked.shape == wave.shape
    assert confidence(marked, rate) > 0.9
    assert 10 * np.log10(np.square(wave).sum() / np.square(marked - wave).sum()) > 12
    # above 2 kHz nothing is changed
    band = slice(round(2500 * len(wave) / rate), round(9000 * len(wave) / rate))
    before, after = (np.abs(np.fft.rfft(w))[band] for w in (wave, marked))
    np.testing.assert_allclose(after, before, atol=0.03 * before.max())


@pytest.mark.parametrize("harm", ["quieter", "a second of it", "16 bits", "mp3"])
def test_mark_survives(clip, harm, tmp_path):
    wave, rate = clip
    marked = mark(wave, rate)
    if harm == "quieter":
        marked = 0.2 * marked
    elif harm == "a second of it":
        marked = marked[rate : 2 * rate]
    elif harm == "16 bits":
        marked = (np.round(marked * 32767) / 32767).astype(np.float32)
    else:
        soundfile.write(tmp_path / "marked.mp3", marked, rate)
        marked, rate = load(tmp_path / "marked.mp3")
    assert confidence(marked, rate) > CERTAIN


def test_silence_and_scraps_carry_nothing():
    assert confidence(np.zeros(22050, np.float32), 22050) == 0
    scrap = np.ones(100, np.float32)
    assert mark(scrap, 22050) is scrap
    assert confidence(scrap, 22050) == 0


def test_what_a_voice_has_said_is_told_from_its_clips(sample_voice, clip, tmp_path, monkeypatch):
    from voiceclone import Voice
    from voiceclone.audio import save

    monkeypatch.setattr(Voice, "samples_dir", tmp_path)
    save(tmp_path / "said.wav", mark(*clip), clip[1])
    assert [(found.sound.split("/")[1], found.marked) for found in check(sample_voice)] == [
        ("said.wav", True),
        ("0001.wav", False),
    ]
