"""Text becomes speech, and what went wrong is said."""

from __future__ import annotations

import copy
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from many import examples
from tiny import TINY

from voiceclone.audio import load, save
from voiceclone.errors import CheckpointError, TextError, VoiceCloneError
from voiceclone.levels import TARGET_LUFS, loudness
from voiceclone.listen import Listener
from voiceclone.synthesize import (
    PAUSE_SECONDS,
    PEAK,
    Synthesizer,
    alignment_problems,
    find_checkpoint,
)
from voiceclone.tacotron2 import Tacotron2
from voiceclone.tacotron2.checkpoint import Checkpoint, load_base, save_checkpoint
from voiceclone.text import to_ids
from voiceclone.train_config import BASE
from voiceclone.voice import Voice

SENTENCE = "The children found a small boat beside the river this morning."
STEP = 0.035  # s


# What an alignment shows ------------------------------------------------------------------------------------------

SYMBOLS = ("@DH", "@AH0", " ", "@B", "@OW1", "@T", " ", "@S", "@AA1", "@F", "@T", "@L", "@IY0", ".")


def spoken(*places):
    """An alignment that attends to one symbol after another, three steps each."""
    return np.eye(len(SYMBOLS), dtype=np.float32)[np.repeat(places, 3)]


def problems_of(*places):
    return alignment_problems(spoken(*places), SYMBOLS, STEP)


def test_a_clean_diagonal_has_no_problem():
    assert problems_of(*range(14)) == ()


def test_spaces_and_marks_need_no_time_and_one_short_sound_may_slip_between_steps():
    assert problems_of(0, 1, 3, 4, 5, 7, 8, 9, 10, 11, 12) == ()
    assert problems_of(0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13) == ()


def test_skipped_sounds_are_found():
    (problem,) = problems_of(0, 1, 2, 3, 4, 5, 11, 12, 13)
    assert "skipped" in problem and "4 sounds" in problem and "T (symbol 11)" in problem


def test_a_repetition_is_found():
    (problem,) = problems_of(*range(9), 3, *range(4, 14))
    assert "twice" in problem and "5 symbols" in problem


def test_a_sound_that_is_held_is_found():
    (problem,) = problems_of(*range(5), *[4] * 12, *range(5, 14))
    assert "OW1" in problem and "1.4 s" in problem


def test_a_pause_may_be_long():
    assert problems_of(*range(7), *[6] * 12, *range(7, 14)) == ()


def test_a_text_that_was_not_finished_is_found():
    (problem,) = problems_of(*range(9))
    assert "9 of 14" in problem and "not spoken" in problem


# Speaking with the base -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(sample_voice, tmp_path_factory):
    """A copy of the sample voice with a run whose best checkpoint is the base as it is."""
    from voiceclone.speaker import embed, mean_embedding

    voice = Voice.open(shutil.copytree(sample_voice.path, tmp_path_factory.mktemp("trained") / "Sample"))
    speaker = mean_embedding([embed(*load(voice.clip_path(clip.id))) for clip in voice.usable()])
    folder = voice.run_dir("main") / "checkpoints"
    save_checkpoint(folder / "best.pt", Checkpoint(load_base(BASE), 0, torch.as_tensor(speaker, dtype=torch.float32)))
    return voice


@pytest.fixture(scope="module")
def synthesizer(trained):
    return Synthesizer.open(trained, vocoder="griffin_lim", device="cpu")


@pytest.fixture(scope="module")
def utterance(synthesizer):
    return synthesizer.say(SENTENCE)


def test_the_base_says_a_sentence_to_its_end(utterance, synthesizer):
    assert utterance.problems == () and utterance.ok
    assert utterance.stopped
    assert 2.5 < utterance.duration < 7
    assert utterance.sample_rate == synthesizer.sample_rate == 22050
    steps = len(utterance.alignment)
    assert utterance.alignment.shape[1] == len(utterance.symbols)
    assert utterance.mel.shape == (80, 3 * steps)
    np.testing.assert_allclose(utterance.alignment.sum(1), 1, atol=1e-3)
    assert abs(utterance.duration * 22050 / 256 - utterance.mel.shape[1]) <= 2
    assert synthesizer.seconds_a_step == pytest.approx(3 * 256 / 22050)
    assert utterance.seconds_spent > 0


def test_it_is_as_loud_as_the_clips(utterance):
    level, peak = loudness(utterance.wave, 22050), np.abs(utterance.wave).max()
    assert utterance.wave.dtype == np.float32
    assert peak <= PEAK + 1e-6
    assert level == pytest.approx(TARGET_LUFS, abs=0.2) or (level < TARGET_LUFS and peak > PEAK - 1e-3)


def test_the_same_seed_gives_the_same_wave_and_another_another(synthesizer):
    state = torch.get_rng_state()
    first, second, other = (synthesizer.say("Good morning.", takes=1, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.wave, second.wave)
    assert first.mel.shape != other.mel.shape or not np.array_equal(first.mel, other.mel)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are left alone


def test_sentences_follow_each_other_with_a_pause(synthesizer):
    both = synthesizer.say("Good morning. How are you?", takes=1)
    parts = list(synthesizer.stream("Good morning. How are you?", takes=1))
    assert len(parts) == 2
    pause = round(PAUSE_SECONDS * 22050)
    at = len(parts[0].wave)
    np.testing.assert_array_equal(both.wave[:at], parts[0].wave)
    assert not both.wave[at : at + pause].any()
    np.testing.assert_array_equal(both.wave[at + pause :], parts[1].wave)
    assert both.symbols == parts[0].symbols + parts[1].symbols
    rows, columns = parts[0].alignment.shape
    np.testing.assert_array_equal(both.alignment[:rows, :columns], parts[0].alignment)
    np.testing.assert_array_equal(both.alignment[rows:, columns:], parts[1].alignment)
    assert not both.alignment[:rows, columns:].any() and not both.alignment[rows:, :columns].any()
    assert both.text == "Good morning. How are you?"


def test_sentences_said_at_once_are_said_as_each_alone(synthesizer):
    model = copy.deepcopy(synthesizer.model)
    model.decoder.prenet.dropout = 0.0  # else chance makes them differ
    speaker = Synthesizer(model, synthesizer.vocoder, speaker=synthesizer.speaker)
    texts = [to_ids(text) for text in ("Go on.", SENTENCE, "How are you?")]
    for (attempt, again), ids in zip(speaker.attempts(texts, takes=2, seed=0), texts, strict=True):
        ((alone,),) = speaker.attempts([ids], takes=1, seed=0)
        np.testing.assert_allclose(attempt.mel, alone.mel, atol=1e-3)
        np.testing.assert_allclose(attempt.alignment, alone.alignment, atol=1e-3)
        np.testing.assert_allclose(attempt.mel, again.mel, atol=1e-3)
        assert (attempt.stopped, attempt.problems) == (alone.stopped, alone.problems)


def test_a_sentence_of_many_without_an_end_is_cut_as_alone(without_gate, monkeypatch):
    monkeypatch.setattr("voiceclone.synthesize.PATIENCE_SECONDS", 100.0)
    texts = [to_ids(text) for text in ("Go on.", SENTENCE)]
    for (attempt,), ids in zip(without_gate.attempts(texts, takes=1, seed=0), texts, strict=True):
        ((alone,),) = without_gate.attempts([ids], takes=1, seed=0)
        assert attempt.mel.shape == alone.mel.shape
        assert attempt.problems[-1] == alone.problems[-1] and "gate never fired" in attempt.problems[-1]
        assert not attempt.stopped


def test_a_sentence_said_twice_is_said_in_two_ways(synthesizer):
    first, again = synthesizer.stream("Good morning. Good morning.", takes=1)
    assert not np.array_equal(first.mel, again.mel)


@pytest.mark.parametrize("text", ["", "  \n ", "...", "👍", "Hello 👍 there."])
def test_a_text_that_cannot_be_said_is_refused(synthesizer, text):
    with pytest.raises(TextError):
        synthesizer.say(text)


def test_a_listener_keeps_the_take_that_is_understood_best(synthesizer):
    class OneGoodTake(Synthesizer):
        """Says the sentence once, and nonsense twice in a sharper way."""

        def attempts(self, texts, *, takes, seed):
            ((good,),) = super().attempts(texts, takes=1, seed=seed)
            noise = np.random.default_rng(0).normal(-8, 1, good.mel.shape).astype(np.float32)
            bad = replace(good, mel=noise, sharpness=good.sharpness + 0.1, problems=good.problems)
            return [[bad, good, bad]]

    speaker = OneGoodTake(synthesizer.model, synthesizer.vocoder, speaker=synthesizer.speaker)
    ((good,),) = synthesizer.attempts([to_ids(SENTENCE)], takes=1, seed=0)
    assert not np.array_equal(speaker.say(SENTENCE).mel, good.mel)  # by alignment alone the sharper one is kept
    assert np.array_equal(speaker.say(SENTENCE, listener="whisper").mel, good.mel)


def test_no_takes_are_refused(synthesizer):
    with pytest.raises(VoiceCloneError, match="takes=0"):
        synthesizer.say("Hello.", takes=0)


@pytest.fixture
def without_gate(synthesizer):
    """The same voice with a gate that never fires."""
    model = copy.deepcopy(synthesizer.model)
    torch.nn.init.constant_(model.decoder.gate_layer.bias, -100.0)
    return Synthesizer(model, synthesizer.vocoder, speaker=synthesizer.speaker)


@pytest.mark.parametrize("frames", [1, 3])  # a step: of one frame no sound can be made
def test_a_gate_that_fires_at_once_is_said_and_what_is_said_can_be_saved(synthesizer, tmp_path, frames):
    torch.manual_seed(0)
    model = Tacotron2(replace(TINY, n_frames_per_step=frames))
    torch.nn.init.constant_(model.decoder.gate_layer.bias, 100.0)
    silent = Synthesizer(model, synthesizer.vocoder, speaker=synthesizer.speaker)
    for text in ("I.", "Good morning. How are you?"):
        said = silent.say(text, listener="whisper")
        assert not said.ok and said.stopped and 0 < said.duration < 0.5
        assert all(np.isfinite(said.wave)) and said.mel.shape[1] > 0
        assert any("nothing was said: the gate fired at once" in problem for problem in said.problems)
        save(tmp_path / "said.wav", said.wave, said.sample_rate)
        assert len(load(tmp_path / "said.wav", sample_rate=None)[0]) == len(said.wave)
    judged = Listener("whisper", "griffin_lim", synthesizer.speaker, "cpu").judge(model, 1, {}, examples(1)[0], 0)
    judged.preview.save(tmp_path)  # as training does
    assert judged.measures["word_error_rate"] == 1 and np.isfinite(judged.worth)


def test_a_gate_that_never_fires_is_said(without_gate, monkeypatch):
    monkeypatch.setattr("voiceclone.synthesize.PATIENCE_SECONDS", 100.0)
    ((attempt,),) = without_gate.attempts([to_ids("Go on.")], takes=1, seed=0)
    assert not attempt.stopped
    assert any("gate never fired" in problem for problem in attempt.problems)


def test_a_sentence_at_its_end_is_over_even_without_the_gate(without_gate):
    ids = to_ids("Go on.")
    ((attempt,),) = without_gate.attempts([ids], takes=1, seed=0)
    assert not attempt.stopped
    assert len(attempt.alignment) * STEP < 2
    assert attempt.alignment[-1].argmax() == len(ids) - 1


def test_what_is_all_but_silent_is_given_as_it_is(synthesizer):
    quiet = 2e-4 * np.sin(np.arange(22050) / 50).astype(np.float32)  # below the gate of loudness
    np.testing.assert_array_equal(synthesizer._level(quiet), quiet)
    assert not synthesizer._level(np.zeros(22050, dtype=np.float32)).any()
    assert len(synthesizer._level(np.ones(100, dtype=np.float32))) == 100


# Which checkpoint -------------------------------------------------------------------------------------------------


def test_a_voice_without_a_checkpoint_points_to_the_training(voice):
    with pytest.raises(CheckpointError, match="notebook 05"):
        Synthesizer.open(voice)


def test_the_run_that_was_worked_on_last_speaks(voice):
    for age, (run, names) in enumerate({"new": ("best", "step-000020"), "old": ("best",), "empty": ()}.items()):
        folder = voice.run_dir(run) / "checkpoints"
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.pt").touch()
            os.utime(folder / f"{name}.pt", (1e9 - age, 1e9 - age))
    (voice.run_dir("old") / "vocoder").mkdir()  # as tuning a vocoder to it does
    os.utime(voice.run_dir("new"), (1e9, 1e9))
    assert find_checkpoint(voice) == voice.run_dir("new") / "checkpoints" / "best.pt"
    assert find_checkpoint(voice, "old") == voice.run_dir("old") / "checkpoints" / "best.pt"
    assert find_checkpoint(voice, checkpoint="last").name == "step-000020.pt"
    assert find_checkpoint(voice, checkpoint="step-000020").name == "step-000020.pt"
    with pytest.raises(CheckpointError, match="step-000020"):
        find_checkpoint(voice, checkpoint="step-000010")
    with pytest.raises(CheckpointError, match="'empty'"):
        find_checkpoint(voice, "empty")
    with pytest.raises(CheckpointError, match="best"):
        find_checkpoint(voice, "old", "last")
