"""What may be chosen of a training, and how its files outlive the machine; with clips that take no time."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from followed import checkpoints, log, stopped_after
from many import PLAIN, STEADY, a_voice, examples, make_light

from voiceclone import colab, drive, train_config
from voiceclone import train as training
from voiceclone.errors import CheckpointError, TrainingError, VoiceCloneError
from voiceclone.export import export, import_checkpoint, import_zip
from voiceclone.schedule import FAKEYOU, Exponential
from voiceclone.tacotron2 import PRESETS, Tacotron2, Tacotron2Config, save_nvidia
from voiceclone.tacotron2.checkpoint import load_checkpoint, newest_checkpoint
from voiceclone.train import TrainConfig, train
from voiceclone.train_config import default_minutes
from voiceclone.voice import Voice


@pytest.fixture
def voice(monkeypatch, tmp_path):
    """Eight clips of random frames, one of them held out."""
    make_light(monkeypatch)
    return a_voice("Light", tmp_path / "voices")


def config(**changes):
    settings = {"steps": 4, "previews": 2, "start": "scratch", "listener": "", "device": "cpu", "learn": STEADY}
    return TrainConfig(**(settings | changes))


def everything(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What may be chosen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["small", "full"])
def test_more_clips_get_more_time(preset):
    minutes = [TrainConfig(preset=preset).for_clips(count).minutes for count in (5, 25, 100, 1000)]
    assert minutes == [default_minutes(preset, count) for count in (5, 25, 100, 1000)]
    assert minutes == sorted(minutes) and minutes[2] == 2 * minutes[1]
    assert minutes[0] == minutes[1] / 2 and minutes[3] == 4 * minutes[1]
    assert TrainConfig(preset=preset, minutes=3.0).for_clips(1000).minutes == 3.0
    assert TrainConfig(preset=preset, steps=7).for_clips(1000).minutes is None


def test_from_the_projects_base_clips_are_learned_no_longer_than_they_teach():
    assert [TrainConfig().for_clips(count).steps for count in (5, 25, 100, 1000)] == [150, 300, 300, 300]
    assert TrainConfig(minutes=60.0).for_clips(25).steps == 300
    assert TrainConfig(steps=900).for_clips(25).steps == 900
    assert TrainConfig(epochs=90).for_clips(25).steps is None
    assert TrainConfig(start="scratch").for_clips(25).steps is None
    assert TrainConfig(preset="full").for_clips(25).steps is None


def test_random_weights_that_nobody_asked_for_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr(train_config, "BASE", tmp_path)  # as where the package was installed without its base
    monkeypatch.setitem(PRESETS, "full", PLAIN)
    monkeypatch.setitem(PRESETS, "small", PLAIN)
    for preset, advice in (("full", "nvidia-ljspeech"), ("small", str(tmp_path))):
        _, based, _, (note,) = training._starting_model(TrainConfig(preset=preset), examples())
        assert not based and "random weights" in note and advice in note
    assert TrainConfig().for_clips(25).steps is None  # they need all the time there is
    assert training._starting_model(TrainConfig(start="scratch"), examples()).notes == ()


def test_a_budget_in_epochs_ends_the_training(voice):  # seven clips to learn from, at most four a step
    steps = list(train(voice, config(steps=None, epochs=3, previews=1)))
    assert [step.epoch for step in steps] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert list(train(voice, config(steps=None, epochs=3, previews=1))) == []


def test_the_time_left_falls_to_nothing(voice):
    steps = list(train(voice, config(steps=5, previews=1)))
    assert all(step.seconds_left > 0 for step in steps[:-1]) and steps[-1].seconds_left == 0
    taken = steps[3].seconds  # four of five steps
    assert steps[3].seconds_left == pytest.approx(taken / 4)


def test_fakeyous_schedule_and_batch_can_be_chosen(voice):
    rates = [
        step.learning_rate
        for step in train(voice, config(previews=1, learn=None, schedule="fakeyou", batch_size=1))
    ]
    assert rates == [FAKEYOU.at(0, share) for share in (0.0, 0.25, 0.5, 0.75)]
    own = Exponential(A=1e-3, min_learning_rate=1e-4)
    chosen = TrainConfig(schedule=own, batch_size=7).learn_config(25, based=True, device="cpu")
    assert (chosen.schedule, chosen.batch_size) == (own, 7)
    with pytest.raises(VoiceCloneError, match="'linear'.*fakeyou"):
        TrainConfig(schedule="linear")
    for beside in ({"schedule": "fakeyou"}, {"batch_size": 6}, {"compile": True}):
        with pytest.raises(VoiceCloneError, match="LearnConfig"):
            config(**beside)


@pytest.mark.parametrize("schedule", ["fakeyou", Exponential(A=5e-4)])
def test_fakeyous_schedule_brings_its_batches_and_epochs_where_none_are_given(schedule):
    chosen = TrainConfig(schedule=schedule).for_clips(25)
    assert (chosen.minutes, chosen.steps, chosen.epochs) == (None, None, 250)
    batches = [chosen.learn_config(count, based=True, device="cpu").batch_size for count in (25, 6, 4, 1)]
    assert batches == [6, 6, 4, 1]
    for given in ({"minutes": 5.0}, {"steps": 40}, {"epochs": 9}):
        limited = TrainConfig(schedule=schedule, **given).for_clips(25)
        assert limited.epochs == given.get("epochs")
        assert limited.learn_config(25, based=True, device="cpu").batch_size == 6
    assert TrainConfig().for_clips(25).epochs is None


def test_dropouts_are_those_asked_for_whatever_a_run_began_or_goes_on_with(voice, tmp_path):
    def trained(run="main", **changes):
        list(train(voice, config(run=run, previews=1, **changes)))
        known = newest_checkpoint(voice.run_dir(run) / "checkpoints")[1].model
        assert (known.decoder.attention_dropout, known.decoder.decoder_dropout) == (
            known.config.attention_dropout, known.config.decoder_dropout
        )  # fmt: skip
        return known.config

    assert trained(steps=1, attention_dropout=0.3) == replace(PLAIN, attention_dropout=0.3)
    assert trained(steps=2, decoder_dropout=0.2) == replace(PLAIN, decoder_dropout=0.2)
    written = json.loads((voice.run_dir("main") / "config.json").read_text())
    assert (written["model"]["attention_dropout"], written["model"]["decoder_dropout"]) == (0.0, 0.2)
    start = str(voice.run_dir("main") / "checkpoints" / "best.pt")
    assert trained(run="more", start=start, steps=1, attention_dropout=0.4) == replace(PLAIN, attention_dropout=0.4)
    for wrong in ({"attention_dropout": 1.0}, {"decoder_dropout": -0.1}):
        with pytest.raises(VoiceCloneError, match=next(iter(wrong))):
            config(**wrong)


@pytest.fixture
def plain(monkeypatch):
    """In the place of the `full` preset: as small as can be, and else like NVIDIA's."""
    sizes = Tacotron2Config(
        symbols_embedding_dim=16, attention_rnn_dim=24, attention_dim=8, attention_location_n_filters=4,
        attention_location_kernel_size=7, prenet_dim=12, decoder_rnn_dim=20, postnet_embedding_dim=16,
    )  # fmt: skip
    monkeypatch.setitem(PRESETS, "full", sizes)
    return sizes


def test_the_full_preset_may_have_a_speaker_embedding(voice, plain, tmp_path):
    list(train(voice, config(preset="full", speaker=True, steps=1, previews=1)))
    best = load_checkpoint(voice.run_dir("main") / "checkpoints" / "best.pt")
    assert best.model.config == replace(plain, speaker_dim=256) and best.speaker.shape == (256,)
    with pytest.raises(CheckpointError, match="speaker embedding"):
        save_nvidia(best.model, tmp_path / "x.pt")
    with pytest.raises(TrainingError, match="with a speaker embedding.*speaker=False"):
        list(train(voice, config(preset="full", steps=2)))


def test_a_speaker_embedding_says_nothing_at_first_to_a_model_that_had_none(plain, tmp_path):
    torch.manual_seed(0)
    known = Tacotron2(plain).eval()
    save_nvidia(known, tmp_path / "known.pt")
    chosen = config(preset="full", speaker=True, start=str(tmp_path / "known.pt"))
    model, based, many_voices, _ = training._starting_model(chosen, [])
    assert based and not many_voices and model.config.speaker_dim == 256
    text, lengths = torch.randint(1, 148, (2, 9)), torch.tensor([9, 7])
    with torch.no_grad():
        spoken = model.eval().encode(text, lengths, torch.randn(2, 256))
        assert torch.equal(spoken, known.encode(text, lengths, None))


def test_a_voice_is_not_drawn_back_to_the_one_person_that_it_began_with(voice, plain, tmp_path):
    save_nvidia(Tacotron2(plain), tmp_path / "known.pt")
    list(train(voice, config(preset="full", speaker=True, start=str(tmp_path / "known.pt"), steps=2, previews=1)))
    newest = newest_checkpoint(voice.run_dir("main") / "checkpoints")[1]
    learned = newest.training["averaged"]
    assert all(torch.equal(tensor, learned[name]) for name, tensor in newest.model.state_dict().items())


# Nothing is lost --------------------------------------------------------------------------------------------------


def assert_refused_and_whole(voice, chosen):
    before = everything(voice.runs_dir)
    for resume in (True, False):
        with pytest.raises(TrainingError, match=r"best.pt holds a voice.*run='more'.*start=") as refused:
            next(train(voice, replace(chosen, resume=resume)))
        assert everything(voice.runs_dir) == before
    return str(refused.value).rpartition("start=")[2].strip("'.")


def test_an_imported_voice_is_not_trained_over_but_begun_with(voice, plain, tmp_path):
    torch.manual_seed(0)
    import_checkpoint(voice, save_nvidia(Tacotron2(plain), tmp_path / "theirs", iteration=9), run="theirs")
    chosen = config(preset="full", run="theirs", steps=1, previews=1)
    start = assert_refused_and_whole(voice, chosen)
    still = replace(STEADY, learning_rate=1e-12)
    list(train(voice, replace(chosen, run="more", start=start, learn=still)))  # what it said
    ours, theirs = (load_checkpoint(voice.run_dir(run) / "checkpoints" / "best.pt") for run in ("more", "theirs"))
    for (name, weight), known in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(weight, known, atol=1e-4, rtol=0, msg=name)


def test_a_voice_out_of_a_zip_is_not_trained_over_either(voice, tmp_path):
    list(train(voice, config()))
    rebuilt = import_zip(export(voice), root=tmp_path / "elsewhere")
    assert list(train(rebuilt, config())) == []  # its time is spent, as it was
    start = assert_refused_and_whole(rebuilt, config(steps=6))
    assert [step.step for step in train(rebuilt, config(steps=2, run="more", start=start))] == [1, 2]


def test_the_best_outlives_the_checkpoints_beside_it(voice):
    list(train(voice, config()))
    for path in (voice.run_dir("main") / "checkpoints").glob("step-*.pt"):
        path.write_bytes(path.read_bytes()[:-3000])
    before = everything(voice.run_dir("main"))
    with pytest.raises(TrainingError, match="no whole checkpoint"):
        list(train(voice, config(steps=6)))
    assert everything(voice.run_dir("main")) == before
    assert [step.step for step in train(voice, config(steps=2, resume=False))] == [1, 2]  # who asks for it begins anew


def test_a_best_checkpoint_that_is_gone_is_made_again(voice):
    list(train(voice, config()))
    (voice.run_dir("main") / "checkpoints" / "best.pt").unlink()
    list(train(voice, config(steps=6)))
    assert load_checkpoint(voice.run_dir("main") / "checkpoints" / "best.pt").step > 4


# TensorBoard ------------------------------------------------------------------------------------------------------


def test_tensorboard_reads_what_the_log_says(voice):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    chosen = config(steps=4, previews=4)
    steps = stopped_after(2, train(voice, chosen)) + list(train(voice, chosen))
    board = EventAccumulator(str(voice.run_dir("main") / "tensorboard")).Reload()
    losses = board.Scalars("training/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    np.testing.assert_allclose([event.value for event in losses], [step.loss for step in steps], rtol=1e-6)
    assert "validation/problems" in board.Tags()["scalars"]
    picture, sound = board.Images("preview/alignment")[-1], board.Audio("preview/sound")[-1]
    steps_and_symbols = steps[-1].preview.alignment.shape
    assert (picture.step, picture.width, picture.height) == (4, *steps_and_symbols)
    assert (sound.step, sound.sample_rate) == (4, 22050) and sound.content_type == "audio/wav"


def test_training_does_without_tensorboard(voice, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    steps = list(train(voice, config(steps=1, previews=1)))
    assert any("TensorBoard" in note and "pip install" in note for note in steps[0].notes)
    assert not (voice.run_dir("main") / "tensorboard").exists()
    assert not any("TensorBoard" in note for note in next(train(voice, config(steps=2, tensorboard=False))).notes)


# On Google Drive --------------------------------------------------------------------------------------------------


@pytest.fixture
def on_drive(voice, monkeypatch, tmp_path):
    """The voice lies on a drive; its runs are written in the folder that this gives."""
    monkeypatch.setattr(drive, "DRIVE", voice.path.parent)
    monkeypatch.setattr(drive, "WORK", tmp_path / "machine")
    monkeypatch.setattr(drive, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(drive, "LONGEST_WAIT", 0.05)
    return tmp_path / "machine" / "Light" / "runs" / "main"


def test_a_run_on_a_drive_outlives_the_machine(voice, on_drive):
    whole = list(train(voice, config(run="whole", steps=6)))
    first = stopped_after(3, train(voice, config(steps=6)))
    assert everything(voice.run_dir("main")) == everything(on_drive)
    assert checkpoints(voice) == ["best.pt", "step-000003.pt"]
    shutil.rmtree(on_drive)
    rest = list(train(voice, config(steps=6)))
    assert [step.step for step in first + rest] == [1, 2, 3, 4, 5, 6]
    assert [step.loss for step in first + rest] == [step.loss for step in whole]
    assert everything(voice.run_dir("main")) == everything(on_drive)
    assert checkpoints(voice) == ["best.pt", "step-000003.pt", "step-000006.pt"]
    assert list(train(voice, config(steps=6))) == []


def test_a_machine_that_is_gone_at_any_moment_loses_what_came_after_a_checkpoint_alone(voice, on_drive):
    import time

    steps = train(voice, config(steps=6, previews=3))
    for _ in range(3):
        next(steps)
    end = time.monotonic() + 60
    while not (voice.run_dir("main") / "checkpoints" / "step-000002.pt").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    gone = Voice.open(shutil.copytree(voice.path, voice.path.parent / "as it was"))
    taken = list(train(gone, config(steps=6, previews=3)))
    assert [step.step for step in taken] == [3, 4, 5, 6]
    assert [line["step"] for line in log(gone)][-4:] == [3, 4, 5, 6]


def test_a_training_that_has_ended_brings_what_its_last_session_could_not(voice, on_drive):
    list(train(voice, config(steps=6)))
    kept = everything(voice.run_dir("main"))
    there = voice.run_dir("main") / "checkpoints"  # the kernel ended before the last two were copied
    (there / "step-000006.pt").unlink()
    (there / "best.pt").write_bytes((there / "best.pt").read_bytes()[::-1])
    assert list(train(voice, config(steps=6))) == []
    assert everything(voice.run_dir("main")) == kept


def test_a_drive_that_fails_stops_no_training(voice, on_drive, monkeypatch):
    def quota(source, target):
        raise OSError(122, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(drive, "_copy_whole", quota)
        patch.setattr(drive, "PATIENCE", 0.2)
        with pytest.warns(UserWarning, match="step-000004.pt.*could not be copied"):
            steps = list(train(voice, config()))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert sum("Disk quota exceeded" in note for step in steps for note in step.notes) == 1
    assert not (voice.run_dir("main") / "checkpoints").exists()
    assert list(train(voice, config())) == []  # nothing left to learn, but all of it to copy
    assert everything(voice.run_dir("main")) == everything(on_drive)


# On Colab ---------------------------------------------------------------------------------------------------------


def test_the_time_left_is_said_with_what_it_costs_on_colab(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert colab.time_left(1800.0) == "about 30 minutes left"
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert colab.time_left(20.0) == "less than a minute left"  # without a GPU it costs no units worth naming
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, units in (("Tesla T4", 1.0), ("NVIDIA L4", 2.4), ("NVIDIA A100-SXM4-40GB", 6.5)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert colab.time_left(1800.0) == f"about 30 minutes left, at most {units} compute units"
    for name in ("NVIDIA of tomorrow", "NVIDIA L40S"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert colab.compute_units(1800.0) is None
