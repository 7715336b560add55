"""A base from a corpus: what is read, what is kept for the next time, what comes out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import QUICK, TINY

from voiceclone import prepare as preparing
from voiceclone import pretrain as pretraining
from voiceclone.align import align
from voiceclone.audio import AudioConfig, load, resample, save
from voiceclone.dataset import mel_statistics
from voiceclone.errors import TrainingError
from voiceclone.log import Log
from voiceclone.pitch import track_pitch
from voiceclone.prepare import prepare, read_corpus
from voiceclone.pretrain import PretrainConfig, corpus_examples, pretrain
from voiceclone.prompts import PROMPTS
from voiceclone.speaker import embed, likeness
from voiceclone.tacotron2 import PRESETS, Tacotron2, save_nvidia, warm_start
from voiceclone.tacotron2.checkpoint import load_base, newest_checkpoint
from voiceclone.text import to_ids
from voiceclone.train_config import TrainConfig

COUNT = 6
SPEEDS = PretrainConfig().speeds


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
    """The folder of what is slow to find out of the corpus, found once."""
    folder = tmp_path_factory.mktemp("features")
    prepare(corpus, out=folder, engine="none")
    return folder


@pytest.fixture
def looked_at(monkeypatch):
    """Clips of which something is found out that was not known."""
    asked, find = [], preparing.clip_features
    monkeypatch.setattr(preparing, "clip_features", lambda row, *a, **k: asked.append(row.key) or find(row, *a, **k))
    return asked


def examples_of(corpus, features, speeds=(), **more):
    return corpus_examples(corpus, features=features, speeds=speeds, workers=1, **more)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(PRESETS, "small", TINY)


def config(**changes):
    settings = {"steps": 3, "held_out": 2, "validate_every": 2, "save_every": 2, "log_every": 1, "workers": 1}
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


def test_examples_have_times_speakers_and_one_loudness(corpus, features, looked_at):
    examples = examples_of(corpus, features)
    assert [example.id for example in examples] == [f"clip-{number}" for number in range(1, COUNT + 1)]
    assert not looked_at
    for number, example in enumerate(examples):
        assert example.text == PROMPTS[number] and len(example.ends) == len(example.ids)
        assert (np.diff(example.ends) >= -1e-4).all()
        assert abs(example.ends[-1] - example.mel.shape[1]) < 3
        assert example.pitch.shape == (example.mel.shape[1],)
    energies = [float(example.mel.exp().square().sum(0).mean()) for example in examples]
    assert max(energies) < 3 * min(energies)  # clip 5 was recorded at a hundredth of the others' power


def test_a_speaker_is_the_mean_of_its_clips(corpus, features):
    examples = examples_of(corpus, features)
    waves = [load(corpus / "wavs" / f"clip-{number}.wav", sample_rate=16000)[0] for number in range(1, COUNT + 1)]
    for first in (0, 1):  # the speakers take turns
        expected = np.mean([embed(wave, 16000) for wave in waves[first::2]], axis=0)
        for example in examples[first::2]:
            np.testing.assert_allclose(example.speaker, expected / np.linalg.norm(expected), atol=1e-5)


def test_what_prepare_left_in_the_corpus_is_found_there(corpus, tmp_path, looked_at):
    shutil.copytree(corpus, tmp_path / "corpus")
    prepare(tmp_path / "corpus", engine="none")
    assert len(looked_at) == COUNT
    assert len(examples_of(tmp_path / "corpus", None, SPEEDS)) == 2 * COUNT
    assert len(looked_at) == COUNT


def test_clips_that_came_later_are_all_that_is_looked_at(corpus, features, tmp_path, looked_at):
    shutil.copytree(corpus, tmp_path / "corpus")
    shutil.copytree(features, tmp_path / "features")
    shutil.copy(corpus / "wavs" / "clip-1.wav", tmp_path / "corpus" / "wavs" / "clip-9.wav")
    (tmp_path / "corpus" / "metadata.csv").write_text(
        (corpus / "metadata.csv").read_text().replace("This one has no sound.", PROMPTS[0])
    )
    assert len(examples_of(tmp_path / "corpus", tmp_path / "features")) == COUNT + 1
    assert looked_at == ["clip-9"]


def test_a_text_that_was_changed_is_found_anew(corpus, features, tmp_path, looked_at):
    shutil.copytree(corpus, tmp_path / "corpus")
    shutil.copytree(features, tmp_path / "features")
    table = tmp_path / "corpus" / "metadata.csv"
    table.write_text((corpus / "metadata.csv").read_text().replace(PROMPTS[0], PROMPTS[0].replace("quiet ", "")))
    examples = examples_of(tmp_path / "corpus", tmp_path / "features", SPEEDS)
    assert looked_at == ["clip-1"] and len(examples) == 2 * COUNT
    assert all(len(example.ends) == len(example.ids) for example in examples)  # at other speeds too


def test_a_clip_that_does_not_say_its_text_is_left_out_at_every_speed(corpus, features, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    table = tmp_path / "corpus" / "metadata.csv"
    table.write_text(table.read_text().replace(PROMPTS[1], PROMPTS[20]))
    shutil.copytree(features, tmp_path / "features")
    names = [example.id for example in examples_of(tmp_path / "corpus", tmp_path / "features", SPEEDS)]
    assert len(names) == 2 * (COUNT - 1) and not any(name.startswith("clip-2") for name in names)


def test_a_clip_without_text_teaches_what_was_heard(corpus, features, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    table = tmp_path / "corpus" / "metadata.csv"
    table.write_text(table.read_text().replace(PROMPTS[1], ""))
    shutil.copytree(features, tmp_path / "features")
    assert len(examples_of(tmp_path / "corpus", tmp_path / "features")) == COUNT - 1
    heard = examples_of(tmp_path / "corpus", tmp_path / "features", transcriber="whisper")
    assert len(heard) == COUNT and heard[1].id == "clip-2"
    assert len(heard[1].ends) == len(heard[1].ids) == len(to_ids(heard[1].text)) > 10


def test_pitch_is_that_of_each_clips_own_sound(corpus, features):
    for example in examples_of(corpus, features):
        wave, _ = load(corpus / "wavs" / f"{example.id}.wav", sample_rate=22050)
        np.testing.assert_allclose(example.pitch, track_pitch(wave), rtol=1e-3)
        assert 0.2 < np.mean(example.pitch > 0) < 0.9


# Other speeds -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_speeds(corpus, features):
    """All examples by their names, those at other speeds too."""
    return {example.id: example for example in examples_of(corpus, features, SPEEDS)}


def pairs(at_speeds):
    """Of each clip the example at another speed, the one at its own, and the speed."""
    others = [(name, *name.partition("@")[::2]) for name in at_speeds if "@" in name]
    return [(at_speeds[name], at_speeds[own], float(speed)) for name, own, speed in others]


def test_each_clip_is_there_once_more_at_the_speeds_in_turn(at_speeds):
    own = [f"clip-{number}" for number in range(1, COUNT + 1)]
    others = [f"{name}@{SPEEDS[number % len(SPEEDS)]}" for number, name in enumerate(own)]
    assert list(at_speeds) == own + others


def test_a_clip_at_another_speed_is_shorter_or_longer_and_says_the_same(at_speeds):
    for example, own, speed in pairs(at_speeds):
        assert example.mel.shape[1] == pytest.approx(own.mel.shape[1] / speed, abs=1)
        np.testing.assert_allclose(example.ends, own.ends / speed, rtol=1e-4)
        assert example.text == own.text and np.array_equal(example.ids, own.ids)


def test_phone_times_at_another_speed_are_those_of_the_sound(corpus, at_speeds):
    example = at_speeds[f"clip-2@{SPEEDS[1]}"]
    wave, _ = load(corpus / "wavs" / "clip-2.wav", sample_rate=22050)
    spans = align(resample(wave, round(22050 * SPEEDS[1]), 22050), 22050, example.text).spans
    ends = np.array([span.end for span in spans]) * AudioConfig().frames_per_second
    assert np.median(np.abs(ends - example.ends)) < 3  # frames: the aligner knows 10 ms, and hears another voice


def test_pitch_at_another_speed_is_what_is_tracked_there(corpus, at_speeds):
    for example, _, speed in pairs(at_speeds):
        wave, _ = load(corpus / "wavs" / f"{example.id.partition('@')[0]}.wav", sample_rate=22050)
        tracked = track_pitch(resample(wave, round(22050 * speed), 22050))
        assert example.pitch.shape == (example.mel.shape[1],) == tracked.shape
        both = (tracked > 0) & (example.pitch > 0)
        assert np.mean((tracked > 0) == (example.pitch > 0)) > 0.9
        assert np.median(np.abs(example.pitch[both] / tracked[both] - 1)) < 0.02


def test_a_clip_at_another_speed_is_spoken_by_another(corpus, at_speeds, features, monkeypatch):
    for example, own, _ in pairs(at_speeds):
        assert likeness(example.speaker.numpy(), own.speaker.numpy()) < 0.9
    assert torch.equal(at_speeds[f"clip-1@{SPEEDS[0]}"].speaker, at_speeds[f"clip-3@{SPEEDS[0]}"].speaker)  # both b's
    # One clip is enough to know a speaker by, so that the embedding is that of the first one's sound.
    monkeypatch.setattr(pretraining, "EMBEDDED", 1)
    found = {example.id: example.speaker for example in examples_of(corpus, features, [1.3])}
    wave, _ = load(corpus / "wavs" / "clip-1.wav", sample_rate=16000)
    expected = embed(resample(wave, 20800, 16000), 16000)
    for name in ("clip-1@1.3", "clip-3@1.3"):
        np.testing.assert_allclose(found[name], expected, atol=1e-3)


def test_loudness_is_the_same_at_every_speed(at_speeds):
    for example, own, _ in pairs(at_speeds):
        assert float(example.mel.exp().square().sum(0).mean()) == pytest.approx(
            float(own.mel.exp().square().sum(0).mean()), rel=0.4
        )


def test_what_is_held_out_is_not_trained_on_at_any_speed(at_speeds):
    for seed in range(5):
        training, held_out = pretraining._hold_out(list(at_speeds.values()), config(seed=seed))
        names = {example.id for example in held_out}
        assert len(held_out) == 2 and not any("@" in name for name in names)  # judged by clips as they are
        assert len(training) == 2 * (COUNT - 2)
        assert not names & {example.id.partition("@")[0] for example in training}


def test_statistics_are_those_of_all_frames(corpus, features):
    examples = examples_of(corpus, features)
    mean, deviation = mel_statistics(examples)
    frames = np.concatenate([example.mel.numpy() for example in examples], axis=1)
    np.testing.assert_allclose(mean, frames.mean(1), rtol=1e-4)
    np.testing.assert_allclose(deviation, frames.std(1), rtol=1e-3)


# Training ---------------------------------------------------------------------------------------------------------


def test_a_base_is_written_and_read(corpus, features, tmp_path, looked_at):
    steps = list(pretrain(corpus, out=tmp_path, features=features, config=config()))
    assert not looked_at  # what `prepare` found is taken
    assert [step.step for step in steps] == [1, 2, 3]
    assert steps[0].validation == {} and set(steps[1].validation) == {"mel", "gate", "attention", "pitch"}
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
    assert written["steps"] == 3 and written["clips"] == 2 * (COUNT - 2) and np.isfinite(written["measures"]["mel"])


def test_an_interrupted_preparation_goes_on(corpus, tmp_path, looked_at, monkeypatch):
    find = preparing.clip_features

    def interrupted(row, *given, **more):
        if row.id == "clip-4":
            raise KeyboardInterrupt
        return find(row, *given, **more)

    monkeypatch.setattr(preparing, "LARGEST_SHARD", 1)
    monkeypatch.setattr(preparing, "clip_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(pretrain(corpus, out=tmp_path / "base", features=tmp_path / "features", config=config()))
    monkeypatch.setattr(preparing, "clip_features", find)
    next(pretrain(corpus, out=tmp_path / "base", features=tmp_path / "features", config=config()))
    assert looked_at == [f"clip-{number}" for number in range(1, COUNT + 1)]  # each of them once


def test_an_interrupted_run_goes_on_from_its_checkpoint(corpus, features, tmp_path):
    whole = list(pretrain(corpus, out=tmp_path / "whole", features=features, config=config(steps=4)))
    steps = pretrain(corpus, out=tmp_path / "parts", features=features, config=config(steps=4))
    first = [next(steps) for _ in range(3)]
    steps.close()
    second = list(pretrain(corpus, out=tmp_path / "parts", features=features, config=config(steps=4)))
    assert [step.step for step in second] == [3, 4]  # the last checkpoint was at 2
    assert [row["step"] for row in Log(tmp_path / "parts" / "log.jsonl").read()] == [1, 2, 3, 4]
    assert [step.learned for step in first[:2] + second] == [step.learned for step in whole]
    assert list(pretrain(corpus, out=tmp_path / "parts", features=features, config=config(steps=4))) == []


def test_a_corpus_too_small_to_hold_clips_out_is_refused(corpus, features, tmp_path):
    with pytest.raises(TrainingError, match="6 clips.*at least 8"):
        next(pretrain(corpus, out=tmp_path, features=features, config=config(held_out=4)))


def test_without_other_speeds_each_clip_is_there_once(corpus, features, tmp_path):
    list(pretrain(corpus, out=tmp_path, features=features, config=config(speeds=(), steps=1)))
    assert json.loads((tmp_path / "training.json").read_text())["clips"] == COUNT - 2


def test_a_base_can_go_on_from_one_of_other_sizes(corpus, features, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "small", replace(TINY, envelope_order=0, postnet_n_convolutions=5))
    list(pretrain(corpus, out=tmp_path / "first", config=config(seed=1), features=features))
    monkeypatch.setitem(PRESETS, "small", TINY)
    still = replace(QUICK, learning_rate=1e-12)
    going_on = config(start=str(tmp_path / "first"), learn=still, steps=1, seed=2)
    (step,) = pretrain(corpus, out=tmp_path / "second", config=going_on, features=features)
    assert np.isfinite(step.learned.loss) and step.learned.pitch_loss > 0
    first, second = (load_base(tmp_path / name) for name in ("first", "second"))
    assert second.config == TINY
    before = first.state_dict()
    for name, after in second.named_parameters():
        if name in before and before[name].shape == after.shape:
            np.testing.assert_allclose(after.detach(), before[name], atol=1e-3, err_msg=name)
    np.testing.assert_array_equal(second.mel_mean, first.mel_mean)


def test_a_full_base_of_many_speakers_is_made_and_begun_with(corpus, features, tmp_path, monkeypatch):
    sizes = replace(TINY, speaker_dim=0, normalise_mels=False, envelope_order=0, n_frames_per_step=1)
    monkeypatch.setitem(PRESETS, "full", sizes)
    torch.manual_seed(0)
    known = Tacotron2(sizes)
    theirs = save_nvidia(known, tmp_path / "theirs.pt")  # of one speaker, as LJSpeech's is
    still = replace(QUICK, learning_rate=1e-12)
    list(pretrain(corpus, out=tmp_path / "base", features=features,
                  config=config(preset="full", start=str(theirs), learn=still, steps=1)))  # fmt: skip
    base = load_base(tmp_path / "base")
    assert base.config == replace(sizes, speaker_dim=256)
    np.testing.assert_allclose(base.embedding.weight.detach(), known.embedding.weight.detach(), atol=1e-3)
    begun = TrainConfig(preset="full", speaker=True, start=str(tmp_path / "base"))
    assert warm_start(begun.start, begun.sizes).model.config == base.config


def test_a_base_can_go_on_from_another(corpus, features, tmp_path):
    list(pretrain(corpus, out=tmp_path / "first", config=config(), features=features))
    still = replace(QUICK, learning_rate=1e-12)
    going_on = config(start=str(tmp_path / "first"), learn=still, steps=1)
    list(pretrain(corpus, out=tmp_path / "second", config=going_on, features=features))
    first, second = (load_base(tmp_path / name) for name in ("first", "second"))
    for (name, before), after in zip(first.named_parameters(), second.parameters(), strict=True):
        np.testing.assert_allclose(after.detach(), before.detach(), atol=1e-3, err_msg=name)
    np.testing.assert_array_equal(second.mel_mean, first.mel_mean)
