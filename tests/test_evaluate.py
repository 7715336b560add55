"""Measures of a clone: held to jiwer's and DNSMOS's own figures, and to what is known of the sounds put in."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import jiwer
import numpy as np
import pytest

from voiceclone.audio import load
from voiceclone.errors import VoiceCloneError, VoiceError
from voiceclone.evaluate import SENTENCES, evaluate, measure, opinion_score
from voiceclone.prompts import PROMPTS
from voiceclone.speaker import embed, mean_embedding
from voiceclone.text import to_ids
from voiceclone.transcribe import words

UNSEEN = PROMPTS[6:8]  # said by takes that are not in the voice


class Playback:
    """Speaks for a voice by playing waves (samples,) at 22,050 Hz that were recorded before."""

    def __init__(self, voice, waves, *, problems=()):
        self.voice, self.waves, self.problems = voice, waves, problems

    def say(self, text):
        wave = self.waves[text]
        seconds = len(wave) / 22050
        return SimpleNamespace(
            text=text, wave=wave, sample_rate=22050, duration=seconds, seconds_spent=seconds / 4, problems=self.problems
        )


@pytest.fixture(scope="module")
def two_clips(sample_voice):
    """The sample voice with two of its clips."""
    clips = sample_voice.usable()[:2]
    return SimpleNamespace(name="Sample", usable=lambda: clips, clip_path=sample_voice.clip_path)


@pytest.fixture(scope="module")
def spoken(sample_takes):
    """Natural waves of the unseen sentences."""
    return {text: load(sample_takes / f"{PROMPTS.index(text) + 1:04d}-1.flac")[0] for text in UNSEEN}


@pytest.fixture(scope="module")
def natural_clone(two_clips, spoken):
    """The measures of a clone that is the person."""
    return evaluate(Playback(two_clips, spoken), UNSEEN, engine="whisper")


def test_sentences_are_plain_unseen_and_of_6_to_14_words():
    assert len(set(SENTENCES)) >= 20
    assert not {tuple(words(s)) for s in SENTENCES} & {tuple(words(p)) for p in PROMPTS}
    assert all(6 <= len(words(s)) <= 14 and to_ids(s) for s in SENTENCES)


def test_no_sentence_is_one_that_checkpoints_are_chosen_by():
    from voiceclone.listen import PREVIEW_SENTENCES

    assert not set(SENTENCES) & set(PREVIEW_SENTENCES)


def test_a_clone_that_is_the_person_is_as_good_as_the_natural_clips(natural_clone):
    clone, natural = natural_clone.voice, natural_clone.natural
    assert (clone.count, natural.count, clone.failures, natural.failures) == (2, 2, 0, 0)
    assert clone.word_error_rate < 0.2 and natural.word_error_rate < 0.2
    assert clone.likeness == pytest.approx(natural.likeness, abs=0.1) and clone.likeness > 0.7
    assert 1 < clone.opinion_score < 5 and 1 < natural.opinion_score < 5
    assert clone.real_time_factor == pytest.approx(0.25) and natural.real_time_factor is None
    assert natural_clone.engine == "whisper:tiny.en"


def test_word_error_rate_is_jiwers_over_all_rows(natural_clone):
    rows = natural_clone.rows
    references = [" ".join(words(row.text)) for row in rows]
    heard = [" ".join(words(row.heard)) for row in rows]
    assert natural_clone.voice.word_error_rate == pytest.approx(jiwer.wer(references, heard))


def test_evaluation_is_plain_values_for_json(natural_clone):
    plain = json.loads(json.dumps(natural_clone.as_dict()))
    assert set(plain) == {"voice", "natural", "rows", "engine"}
    assert plain["rows"][0]["text"] == UNSEEN[0] and plain["natural"]["real_time_factor"] is None


def test_a_clone_that_plays_the_voices_own_clips_has_their_opinion_score(two_clips, natural_clone):
    own = [load(two_clips.clip_path(clip.id))[0] for clip in two_clips.usable()]
    waves = {f"Sentence number {k} is new.": wave for k, wave in enumerate(own)}
    same = evaluate(Playback(two_clips, waves), tuple(waves), engine="whisper")
    assert same.natural == natural_clone.natural
    assert same.voice.opinion_score == pytest.approx(same.natural.opinion_score)
    assert same.voice.likeness >= same.natural.likeness  # each clip is part of the mean that it is compared with
    assert same.voice.word_error_rate > 0.5  # but these are other words


@pytest.fixture(scope="module")
def own_embedding(two_clips):
    """The voice's own, of its natural clips."""
    return mean_embedding([embed(*load(two_clips.clip_path(clip.id))) for clip in two_clips.usable()])


def test_recordings_are_measured_as_a_clone_that_says_the_same(natural_clone, spoken, own_embedding):
    found = measure(((text, spoken[text], 22050) for text in UNSEEN), own_embedding, engine="whisper")
    expected = replace(natural_clone.voice, real_time_factor=None)  # nobody made them
    assert found.count == expected.count == 2 and found.real_time_factor is None and found.failures == 0
    for name in ("word_error_rate", "likeness", "opinion_score"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-5), name


def test_a_recording_of_silence_is_measured_as_the_worst(spoken, own_embedding):
    silence = np.zeros(22050, dtype=np.float32)
    alone = measure([(UNSEEN[0], silence, 22050)], own_embedding, engine="whisper")
    assert (alone.word_error_rate, alone.likeness, alone.opinion_score) == (1, 0, 1)
    text = UNSEEN[1]
    both = [(UNSEEN[0], silence, 22050), (text, spoken[text], 22050)]
    good = measure(both[1:], own_embedding, engine="whisper")
    assert measure(both, own_embedding, engine="whisper").likeness == pytest.approx(good.likeness / 2)


def test_another_voice_silence_and_problems_show(two_clips, spoken, natural_clone):
    text = UNSEEN[0]
    higher = np.interp(np.arange(0, len(spoken[text]), 1.4), np.arange(len(spoken[text])), spoken[text])  # a child's
    waves = {text: higher.astype(np.float32), UNSEEN[1]: np.zeros(22050, dtype=np.float32)}
    calls = []
    found = evaluate(
        Playback(two_clips, waves, problems=("it never stopped",)), UNSEEN, engine="whisper",
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    another, silent = found.rows
    assert another.likeness < natural_clone.rows[0].likeness - 0.1
    assert (silent.heard, silent.word_error_rate, silent.likeness, silent.opinion_score) == ("", 1, 0, 1)
    assert found.voice.failures == 2 and silent.problems == ("it never stopped",)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_noise_lowers_the_opinion_score_which_is_dnsmoss_own(sample_takes):
    from speechmos import dnsmos

    wave, rate = load(sample_takes / "0003-1.flac", sample_rate=16000)  # 4.7 s: twice it fills one window
    noisy = wave + np.random.default_rng(0).normal(0, np.abs(wave).max() / 10, len(wave)).astype(np.float32)
    assert opinion_score(wave, rate) == pytest.approx(float(dnsmos.run(wave, sr=16000)["ovrl_mos"]), abs=1e-6)
    assert opinion_score(noisy, rate) < opinion_score(wave, rate)
    assert opinion_score(np.zeros(0), 16000) == 1


def test_sentences_that_were_trained_on_are_refused(two_clips, spoken):
    with pytest.raises(VoiceError, match="0001"):
        evaluate(Playback(two_clips, spoken), [two_clips.usable()[0].transcript], engine="whisper")


def test_nothing_to_say_or_to_compare_with_is_said(two_clips, voice):
    with pytest.raises(VoiceCloneError, match="no sentences"):
        evaluate(Playback(two_clips, {}), [], engine="whisper")
    with pytest.raises(VoiceError, match="nothing to compare"):
        evaluate(Playback(voice, {}), SENTENCES, engine="whisper")
