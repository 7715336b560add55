"""Speaker embeddings: equal to Resemblyzer's, alike for one voice, unlike for two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voiceclone.errors import AudioError
from voiceclone.speaker import embed, likeness, mean_embedding, trim_silence

REFERENCE = Path(__file__).parent / "references" / "resemblyzer.npz"
RATE = 22050


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE) as file:
        return {name: a.astype(np.float32) / 32768 if a.dtype == np.int16 else a for name, a in file.items()}


@pytest.mark.parametrize("sound", ["tone", "clip"])
def test_embedding_equals_resemblyzers(reference, sound):
    embedding = embed(reference[sound], RATE)
    assert embedding.shape == (256,) and embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, reference[f"{sound}_embedding"], atol=1e-4, rtol=0)


def test_embedding_of_less_than_one_part_equals_resemblyzers(reference):
    np.testing.assert_allclose(embed(reference["clip"][:15000], RATE), reference["short_embedding"], atol=1e-4, rtol=0)


def test_embedding_of_a_quiet_wave_does_not_depend_on_its_level(reference):
    quiet = 0.01 * reference["clip"]
    assert likeness(embed(quiet, RATE), embed(0.3 * quiet, RATE)) > 0.9999


def test_embedding_does_not_depend_on_silence_around(reference):
    clip = reference["clip"]
    silence = np.zeros(RATE, np.float32)
    assert likeness(embed(clip, RATE), embed(np.concatenate([silence, clip, silence]), RATE)) > 0.95


def test_two_halves_of_one_voice_are_more_alike_than_voice_and_tone(reference):
    clip = reference["clip"]
    half = len(clip) // 2
    first, second = embed(clip[:half], RATE), embed(clip[half:], RATE)
    assert likeness(first, second) > likeness(first, embed(reference["tone"], RATE)) + 0.1


def test_likeness_is_the_cosine():
    assert likeness(np.array([3.0, 0.0]), np.array([5.0, 0.0])) == pytest.approx(1)
    assert likeness(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(np.sqrt(0.5))


def test_mean_embedding_has_length_one(reference):
    mean = mean_embedding([reference["clip_embedding"], reference["tone_embedding"]])
    assert np.linalg.norm(mean) == pytest.approx(1, abs=1e-6)
    assert likeness(mean, reference["clip_embedding"]) == pytest.approx(likeness(mean, reference["tone_embedding"]))


def test_trimming_leaves_short_gaps_and_shortens_long_ones():
    rng = np.random.default_rng(0)
    speech = rng.normal(0, 0.1, 16000)
    short = np.concatenate([speech, np.zeros(3000), speech])  # 0.19 s of silence
    long = np.concatenate([np.zeros(16000), speech, np.zeros(32000), speech, np.zeros(16000)])
    assert len(trim_silence(short)) == len(short)
    assert 32000 < len(trim_silence(long)) < 32000 + 4 * 0.16 * 16000


@pytest.mark.parametrize(
    ("wave", "complaint"),
    [
        (np.zeros(0), "empty"),
        (np.zeros(16000), "silent"),
        (np.full(16000, np.nan), "not numbers"),
        (np.ones((2, 16000)), "not mono"),
    ],
)
def test_what_holds_no_voice_is_refused(wave, complaint):
    with pytest.raises(AudioError, match=complaint):
        embed(wave, 16000)


def test_mean_of_no_embeddings_is_refused():
    with pytest.raises(AudioError, match="no clips"):
        mean_embedding([])
