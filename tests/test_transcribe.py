"""Hearing: words are compared as people would, engines are what they say, corrections by hand survive."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from voiceclone import ears
from voiceclone.errors import AudioError, TextError, UnavailableError, VoiceCloneError, VoiceError
from voiceclone.hub import hub_answers
from voiceclone.prompts import PROMPTS
from voiceclone.record import choose_take, import_takes
from voiceclone.transcribe import (
    accept,
    correct,
    load_transcriber,
    reject,
    transcribe,
    word_differences,
    word_error_rate,
)

# Words ------------------------------------------------------------------------------------------------------------


def test_same_words_written_differently_are_no_error():
    assert word_error_rate("Dr. Smith paid $3.50!", "doctor smith paid three dollars fifty cents") == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("one two three four", "one two three four", 0),
        ("one two three four", "one too three four", 1 / 4),
        ("one two three four", "one three four", 1 / 4),
        ("one two three four", "one two three four four", 1 / 4),
        ("one two three four", "", 1),
        ("", "", 0),
        ("", "something", 1),
        ("one two three four", "one two ♪ three four 日本", 0),  # what engines write where there is music
    ],
)
def test_word_error_rate_is_that_of_its_definition(reference, hypothesis, rate):
    assert word_error_rate(reference, hypothesis) == pytest.approx(rate)


def test_word_error_rate_of_many_texts_weighs_by_words():
    assert word_error_rate(["one", "two three four"], ["won", "two three four"]) == pytest.approx(1 / 4)
    assert word_error_rate([], []) == 0
    with pytest.raises(VoiceCloneError):
        word_error_rate(["one"], [])


def test_differences_say_what_became_of_each_word():
    found = word_differences("The cat sat on the mat.", "A cat sat the mat there")
    assert [(d.kind, d.reference, d.hypothesis) for d in found] == [
        ("replaced", "the", "a"), ("same", "cat", "cat"), ("same", "sat", "sat"), ("missing", "on", ""),
        ("same", "the", "the"), ("same", "mat", "mat"), ("added", "", "there"),
    ]  # fmt: skip
    assert [d.kind for d in word_differences("", "hello there")] == ["added", "added"]
    assert word_differences("", "") == ()


# Engines ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A CTC model with random weights in a folder, as the hub would hold one."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("wav2vec2")
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    (folder / "letters.json").write_text(json.dumps({letter: k for k, letter in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(folder / "letters.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    model = Wav2Vec2ForCTC(config)
    model.lm_head.weight.data *= 30  # random logits are nearly alike; these choose
    model.save_pretrained(folder)
    return folder, letters


def test_wav2vec2_writes_what_greedy_decoding_by_hand_gives(small_model, sample_takes):
    import torch
    from transformers import Wav2Vec2ForCTC

    from voiceclone.audio import load

    folder, letters = small_model
    wave, rate = load(sample_takes / "0001-1.flac", sample_rate=16000)
    heard = load_transcriber("wav2vec2", str(folder), device="cpu").hear(wave, rate)

    scaled = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
    with torch.inference_mode():
        logits = Wav2Vec2ForCTC.from_pretrained(folder).eval()(torch.from_numpy(scaled)[None]).logits[0]
    best = logits.argmax(-1).tolist()
    collapsed = [k for k, before in zip(best, [None, *best], strict=False) if k != before and k != 0]
    by_hand = "".join(letters[k] for k in collapsed if not letters[k].startswith("<")).replace("|", " ").strip()
    assert any(a == b for a, b in zip(by_hand, by_hand[1:], strict=False))  # doubled letters stay two
    assert heard.text.lower() == " ".join(by_hand.lower().split())
    probabilities = logits.softmax(-1).amax(-1)[torch.tensor(best) != 0]
    assert heard.confidence == pytest.approx(probabilities.mean().item(), abs=1e-4)


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros(16000), np.full(100, 0.1)], ids=["empty", "silent", "6 ms"])
def test_nothing_is_heard_where_nothing_is(small_model, wave):
    assert load_transcriber("wav2vec2", str(small_model[0])).hear(wave, 16000) == ears.Heard("", 0.0)


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(VoiceCloneError, match="auto, wav2vec2, whisper"):
        load_transcriber("sphinx")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UnavailableError, match="facebook/wav2vec2-base-960h"):
        load_transcriber("wav2vec2", str(tmp_path))


def test_without_the_hub_auto_says_so_and_listens_offline(monkeypatch):
    monkeypatch.setattr(ears, "hub_answers", lambda: False)
    with pytest.raises(UnavailableError, match="can't be reached"):
        load_transcriber("wav2vec2", "nobody/has-this-model")
    with pytest.warns(UserWarning, match="whisper instead of wav2vec2"):
        assert load_transcriber("auto", "nobody/has-this-model").engine == "whisper"


def test_a_hub_that_never_answers_is_given_up_in_time(monkeypatch):
    import socket

    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and then says nothing
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        assert not hub_answers(patience=0.3)
        assert time.monotonic() - begun < 2


# A voice's clips --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard_voice(tmp_path_factory, sample_takes):
    """A voice with a good clip (0001) and one whose first take was misread (0018), heard by whisper."""
    from voiceclone import Voice

    voice = Voice.create("Heard", root=tmp_path_factory.mktemp("voices"), consent="Test Person")
    import_takes(voice, [sample_takes / "0001-1.flac", sample_takes / "0018-1.flac"])
    transcribe(voice, "whisper")
    return voice


@pytest.fixture
def copy(heard_voice, tmp_path):
    """A copy of that voice that may be changed."""
    import shutil

    from voiceclone import Voice

    return Voice.open(shutil.copytree(heard_voice.path, tmp_path / "copy"))


def test_a_clip_that_says_its_prompt_is_accepted_and_a_misread_one_is_up_for_review(heard_voice):
    good, misread = heard_voice.clip("0001"), heard_voice.clip("0018")
    assert (good.transcript, good.source, good.state) == (PROMPTS[0], "prompt", "accepted")
    assert good.heard_by == f"whisper:tiny.en@{good.hash}"
    assert (misread.transcript, misread.source, misread.state) == (misread.heard, "whisper", "review")
    assert misread.heard != misread.prompt


def test_what_was_heard_is_not_heard_again(copy, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("an engine was loaded")

    monkeypatch.setattr("voiceclone.transcribe.load_transcriber", refuse)
    before = copy.clips
    assert transcribe(copy, "whisper") == before
    assert transcribe(copy) == before  # "auto" is content with any engine's ears


class Parrot(ears.Transcriber):
    """Hears the same in everything, and counts how often it was asked."""

    engine, model = "whisper", "tiny.en"

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, 0

    def _hear(self, wave: np.ndarray) -> ears.Heard:
        self.asked += 1
        return ears.Heard(self.text, 1.0)


@pytest.fixture
def parrot(monkeypatch):
    """Put a parrot in every engine's place."""
    bird = Parrot(PROMPTS[17])
    monkeypatch.setattr("voiceclone.transcribe.load_transcriber", lambda *_: bird)
    return bird


def test_a_changed_take_alone_is_heard_again(copy, parrot, sample_takes):
    import_takes(copy, [sample_takes / "0018-2.flac"])
    choose_take(copy, "0018", "0018-2.wav")
    transcribe(copy, "whisper")
    assert parrot.asked == 1
    assert (copy.clip("0018").state, copy.clip("0018").transcript) == ("accepted", PROMPTS[17])


def test_a_correction_by_hand_survives_being_heard_again(copy, parrot):
    assert correct(copy, "0018", "  What I really   said. ").state == "accepted"
    copy.update(*(replace(clip, heard_by="") for clip in copy.clips))
    transcribe(copy, "whisper")
    clip = copy.clip("0018")
    assert parrot.asked == 2 and clip.heard == PROMPTS[17]
    assert (clip.transcript, clip.source, clip.state) == ("What I really said.", "hand", "accepted")


def test_a_text_that_cannot_be_spoken_changes_nothing(copy):
    before = copy.clip("0001")
    for text in ("Well done \N{THUMBS UP SIGN}", "Привет", "  "):
        with pytest.raises(TextError):
            correct(copy, "0001", text)
    assert copy.clip("0001") == before


def test_a_bad_take_is_not_accepted_even_if_its_words_are_right(copy, parrot):
    copy.update(replace(copy.clip("0018"), heard_by="", checks="clipped"))
    transcribe(copy, "whisper")
    assert copy.clip("0018").transcript == PROMPTS[17] and copy.clip("0018").state == "review"


def test_rejected_clips_stay_rejected_until_accepted(copy, parrot):
    reject(copy, "0001")
    copy.update(replace(copy.clip("0001"), heard_by=""))
    transcribe(copy, "whisper")
    assert parrot.asked == 0 and copy.clip("0001").state == "rejected"
    assert accept(copy, "0001").state == "accepted"


def test_what_has_no_transcript_cannot_be_accepted(copy):
    copy.update(replace(copy.clip("0001"), transcript=""))
    with pytest.raises(VoiceError, match="no transcript"):
        accept(copy, "0001")


def test_a_lost_take_is_named_after_the_others_were_heard(copy, parrot):
    copy.update(*(replace(clip, heard_by="") for clip in copy.clips))
    copy.take_path(copy.clip("0001")).unlink()
    with pytest.raises(AudioError, match="0001"):
        transcribe(copy, "whisper")
    assert copy.clip("0018").heard == PROMPTS[17]
