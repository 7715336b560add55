"""Forced alignment: known silences are found where they are, wrong texts and impossible clips are refused."""

from __future__ import annotations

import numpy as np
import pytest

from voiceclone.align import AlignmentError, align
from voiceclone.audio import load
from voiceclone.prompts import PROMPTS
from voiceclone.text import symbol_names, to_ids


@pytest.fixture(scope="module")
def take(sample_takes):
    """Read a take and its prompt by number."""
    return lambda number: (*load(sample_takes / f"{number:04d}-1.flac", sample_rate=16000), PROMPTS[number - 1])


def trimmed(wave: np.ndarray, rate: int, text: str) -> np.ndarray:
    """The speech alone."""
    found = align(wave, rate, text)
    return wave[round(found.speech_start * rate) : round(found.speech_end * rate)]


def test_every_symbol_has_one_span_without_gaps(take):
    wave, rate, text = take(1)
    spans = align(wave, rate, text).spans
    assert [span.symbol for span in spans] == symbol_names(to_ids(text))
    assert spans[0].start == 0 and spans[-1].end == len(wave) / rate
    assert all(before.end == after.start for before, after in zip(spans, spans[1:], strict=False))
    assert all(span.end - span.start >= 0.03 - 1e-9 for span in spans if span.symbol.startswith("@"))


def test_silence_that_was_put_between_sentences_is_found_within_50_ms(take):
    first, rate, first_text = take(1)
    second, _, second_text = take(2)
    first, second = trimmed(first, rate, first_text), trimmed(second, rate, second_text)
    before, between, after = 0.35, 0.60, 0.45  # s
    wave = np.concatenate(
        [np.zeros(round(before * rate)), first, np.zeros(round(between * rate)), second, np.zeros(round(after * rate))]
    )
    found = align(wave, rate, f"{first_text} {second_text}")
    pause = found.spans[len(to_ids(first_text)) - 1]
    assert pause.symbol == "."
    assert found.speech_start == pytest.approx(before, abs=0.05)
    assert pause.start == pytest.approx(before + len(first) / rate, abs=0.05)
    assert pause.end == pytest.approx(before + len(first) / rate + between, abs=0.05)
    assert found.speech_end == pytest.approx((len(wave) / rate) - after, abs=0.05)
    assert found.spans[-1].start == found.speech_end


def test_silence_in_the_middle_of_a_sentence_is_the_space_of_its_place(take):
    wave, rate, text = take(1)
    spans = align(wave, rate, text).spans
    spaces = [k for k, span in enumerate(spans) if span.symbol == " "]
    # Where the voice is softest: nothing of a sound is cut in two there.
    space = min(spaces, key=lambda k: np.abs(wave[round((spans[k].start - 0.02) * rate) :][: round(0.04 * rate)]).max())
    cut = round(spans[space].start * rate)
    paused = align(np.concatenate([wave[:cut], np.zeros(rate // 2), wave[cut:]]), rate, text).spans
    assert paused[space].start == pytest.approx(spans[space].start, abs=0.05)
    assert paused[space].end - paused[space].start == pytest.approx(0.5, abs=0.05)


def test_times_move_with_the_sound_and_ignore_its_level_and_rate(take, speech):
    wave, rate, text = take(1)
    ends = np.array([span.end for span in align(wave, rate, text).spans[:-1]])
    quiet, quiet_rate, _ = speech  # the same take at 22,050 Hz
    same = np.array([span.end for span in align(quiet * 0.05, quiet_rate, text).spans[:-1]])
    assert np.median(np.abs(same - ends)) <= 0.01
    shifted = np.array([span.end for span in align(wave[round(0.2 * rate) :], rate, text).spans[:-1]])
    assert np.median(np.abs(shifted + 0.2 - ends)) <= 0.011  # PocketSphinx thinks in frames of 10 ms


def fits(wave: np.ndarray, rate: int, text: str) -> bool:
    try:
        return align(wave, rate, text).fits
    except AlignmentError:
        return False


@pytest.mark.parametrize("number", [2, 7, 15, 21])
def test_own_text_fits_and_another_prompt_does_not(take, number):
    wave, rate, text = take(number)
    assert fits(wave, rate, text)
    assert not fits(wave, rate, PROMPTS[number])


def test_the_misread_take_is_found(take):
    assert not fits(*take(18))


def test_unknown_words_and_phonemes_in_braces_are_aligned(take):
    wave, rate, text = take(1)
    word = text.split()[0]
    braces = f"{{DH AH0}} {text.removeprefix(word)}"
    assert align(wave, rate, braces).fits
    found = align(wave, rate, f"Zwoobelix {text}")  # said by nobody, but it has phonemes
    assert [span.symbol for span in found.spans] == symbol_names(to_ids(f"Zwoobelix {text}"))


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(0, dtype=np.float32),
        np.zeros(48000, dtype=np.float32),
        np.full(48000, np.nan, dtype=np.float32),
        np.random.default_rng(0).normal(0, 0.1, 3200).astype(np.float32),  # 0.2 s
    ],
    ids=["empty", "silent", "not numbers", "0.2 s"],
)
def test_a_clip_that_cannot_hold_the_text_is_refused(wave):
    with pytest.raises(AlignmentError):
        align(wave, 16000, "A sentence that takes some three seconds when it is read aloud.")


def test_noise_is_not_taken_for_speech():
    noise = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)
    assert not fits(noise, 16000, "Nobody says anything here.")
