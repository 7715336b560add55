"""A base from a corpus: what is read, what is kept for the next time, what comes out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny import QUICK, TINY

from voiceclone import align as aligning
from voiceclone.audio import AudioConfig, load, save
from voiceclone.errors import TrainingError
from voiceclone.levels import loudness
from voiceclone.pretrain import PretrainConfig, corpus_examples, mel_statistics, pretrain, read_corpus
from voiceclone.prompts import PROMPTS
from voiceclone.tacotron2 import PRESETS
from voiceclone.tacotron2.checkpoint import load_base, newest_checkpoint

COUNT = 6


@pytest.fixture(scope="module")
def corpus(sample_takes, tmp_path_factory):
    """Six spoken clips of two speakers; the last two at another rate, one of them far too quiet."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for number in range(1, COUNT + 1):
        rate = 22050 if number < 5 else 24000
        wave, _ = load(sample_takes / f"{number:04d}-1.flac", sample_rate=rate)
        save(folder / "wavs" / f"clip-{number}.wav", wave * (0.1 if number == 5 else 1.0), rate)
        rows.append(f"clip-{number}|{'ab'[number % 2]}|{PROMPTS[number - 1]}\n")
    (folder / "metadata.csv").write_text("".join(rows) + "clip-9|a|This one has no sound.\n")
    return folder


@pytest.fixture(scope="module")
def features(corpus, tmp_path_factory):
    """The corpus's phone times, embeddings and gains, found once."""
    path = tmp_path_factory.mktemp("features") / "features.npz"
    corpus_examples(corpus, path, AudioConfig())
    return path


@pytest.fixture
def aligner_gone(monkeypatch):
    def refuse(*given, **more):
        raise AssertionError("asked to align again")

    monkeypatch.setattr(aligning, "align_many", refuse)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(PRESETS, "small", TINY)


def config(**changes):
    settings = {"steps": 3, "held_out": 2, "validate_every": 2, "save_every": 2, "log_every": 1}
    return PretrainConfig(**(settings | {"device": "cpu", "learn": QUICK} | changes))


# The corpus -------------------------------------------------------------------------------------------------------


def test_rows_without_a_sound_are_left_out(corpus):
    rows = read_corpus(corpus)
    assert [row.id for row in rows] == [f"clip-{number}" for number in range(1, COUNT + 1)]
    assert rows[0].speaker == "b" and rows[0].text == PROMPTS[0] and rows[0].path.is_file()


@pytest.mark.parametrize("wrong", ["clip-2|a", "clip-2|a|b|c", "clip-2,a,A text."])
def test_a_malformed_line_is_named(corpus, tmp_path, wrong):
    (tmp_path / "metadata.csv").write_text(f"clip-1|a|A text.\n{wrong}\n")
    with pytest.raises(TrainingError, match="line 2.*id.speaker.text"):
        read_corpus(tmp_path)


def test_a_folder_that_is_no_corpus_is_said_so(tmp_path):
    with pytest.raises(TrainingError, match="metadata.csv"):
        read_corpus(tmp_path)
    (tmp_path / "metadata.csv").write_text("clip-1|a|A text.\n")
    with pytest.raises(TrainingError, match="wavs"):
        read_corpus(tmp_path)


def test_examples_have_times_speakers_and_one_loudness(corpus, features, aligner_gone):
    examples = corpus_examples(corpus, features, AudioConfig())
    assert [example.id for example in examples] == [f"clip-{number}" for number in range(1, COUNT + 1)]
    for example in examples:
        assert len(example.ends) == len(example.ids)
        assert (np.diff(example.ends) >= -1e-4).all()
        assert abs(example.ends[-1] - example.mel.shape[1]) < 3
    assert np.array_equal(examples[0].speaker, examples[2].speaker)  # both of speaker b
    assert not np.array_equal(examples[0].speaker, examples[1].speaker)
    with np.load(features) as file:
        gains = dict(zip(file["ids"].tolist(), file["gains"].tolist(), strict=True))
    wave, rate = load(corpus / "wavs" / "clip-5.wav")
    assert loudness(wave * gains["clip-5"], rate) == pytest.approx(-23, abs=0.3)


def test_clips_that_came_later_are_all_that_is_looked_at(corpus, features, tmp_path, monkeypatch):
    shutil.copytree(corpus, tmp_path / "corpus")
    shutil.copy(features, tmp_path / "features.npz")
    shutil.copy(corpus / "wavs" / "clip-1.wav", tmp_path / "corpus" / "wavs" / "clip-9.wav")
    (tmp_path / "corpus" / "metadata.csv").write_text(
        (corpus / "metadata.csv").read_text().replace("This one has no sound.", PROMPTS[0])
    )
    asked, align_many = [], aligning.align_many
    monkeypatch.setattr(aligning, "align_many", lambda items: align_many(asked.append(len(items)) or items))
    assert len(corpus_examples(tmp_path / "corpus", tmp_path / "features.npz", AudioConfig())) == COUNT + 1
    assert asked == [1]


def test_a_text_that_was_changed_is_aligned_again(corpus, features, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    shutil.copy(features, tmp_path / "features.npz")
    table = tmp_path / "corpus" / "metadata.csv"
    table.write_text((corpus / "metadata.csv").read_text().replace(PROMPTS[0], PROMPTS[0].replace("quiet ", "")))
    examples = corpus_examples(tmp_path / "corpus", tmp_path / "features.npz", AudioConfig())
    assert all(len(example.ends) == len(example.ids) for example in examples)


def test_statistics_are_those_of_all_frames(corpus, features):
    examples = corpus_examples(corpus, features, AudioConfig())
    mean, deviation = mel_statistics(examples)
    frames = np.concatenate([example.mel.numpy() for example in examples], axis=1)
    np.testing.assert_allclose(mean, frames.mean(1), rtol=1e-4)
    np.testing.assert_allclose(deviation, frames.std(1), rtol=1e-3)


# Training ---------------------------------------------------------------------------------------------------------


def test_a_base_is_written_and_read(corpus, features, tmp_path, aligner_gone):
    steps = list(pretrain(corpus, out=tmp_path, features=features, config=config()))
    assert [step.step for step in steps] == [1, 2, 3]
    assert steps[0].validation == {} and set(steps[1].validation) == {"mel", "gate", "attention"}
    assert all(np.isfinite(step.learned.loss) for step in steps)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3]
    model = load_base(tmp_path)
    assert model.config == TINY
    assert (tmp_path / "model.safetensors").stat().st_size < 20e6
    learned = newest_checkpoint(tmp_path / "checkpoints")[1].model.state_dict()
    for name, tensor in model.state_dict().items():
        np.testing.assert_allclose(tensor.numpy(), learned[name].numpy(), rtol=1e-3, atol=1e-5, err_msg=name)
    written = json.loads((tmp_path / "training.json").read_text())
    assert written["steps"] == 3 and written["clips"] == COUNT - 2 and np.isfinite(written["measures"]["mel"])


def test_an_interrupted_run_goes_on_from_its_checkpoint(corpus, features, tmp_path, aligner_gone):
    whole = list(pretrain(corpus, out=tmp_path / "whole", features=features, config=config(steps=4)))
    steps = pretrain(corpus, out=tmp_path / "parts", features=features, config=config(steps=4))
    first = [next(steps) for _ in range(3)]
    steps.close()
    second = list(pretrain(corpus, out=tmp_path / "parts", features=features, config=config(steps=4)))
    assert [step.step for step in second] == [3, 4]  # the last checkpoint was at 2
    assert [step.learned for step in first[:2] + second] == [step.learned for step in whole]
    assert list(pretrain(corpus, out=tmp_path / "parts", features=features, config=config(steps=4))) == []


def test_a_corpus_too_small_to_hold_clips_out_is_refused(corpus, features, tmp_path):
    with pytest.raises(TrainingError, match="6 clips.*at least 8"):
        next(pretrain(corpus, out=tmp_path, features=features, config=config(held_out=4)))


def test_a_base_can_go_on_from_another(corpus, features, tmp_path):
    list(pretrain(corpus, out=tmp_path / "first", config=config(), features=features))
    still = replace(QUICK, learning_rate=1e-12)
    going_on = config(start=str(tmp_path / "first"), learn=still, steps=1)
    list(pretrain(corpus, out=tmp_path / "second", config=going_on, features=features))
    first, second = (load_base(tmp_path / name) for name in ("first", "second"))
    for (name, before), after in zip(first.named_parameters(), second.parameters(), strict=True):
        np.testing.assert_allclose(after.detach(), before.detach(), atol=1e-3, err_msg=name)
    np.testing.assert_array_equal(second.mel_mean, first.mel_mean)
