"""Several processes that share each batch learn what one learns from all of it, and only the first of them speaks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import many
import numpy as np
import pytest

from voiceclone import launch
from voiceclone.dataset import collate
from voiceclone.errors import TrainingError
from voiceclone.launch import config_from, train_by
from voiceclone.schedule import Exponential
from voiceclone.tacotron2.checkpoint import newest_checkpoint
from voiceclone.train import TrainConfig
from voiceclone.widgets import TrainingView

TESTS = Path(__file__).parent


def launched(*arguments, processes=2):
    """Run something of this folder in processes that ``accelerate launch`` starts; what they print."""
    places = os.pathsep.join(map(str, (TESTS, TESTS.parent)))  # this very package, wherever another is installed
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": places}
    options = ("--multi_gpu", "--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no")
    port = ("--main_process_port", 0)  # a free one
    command = ("-m", "accelerate.commands.launch", *options, *port, "--num_processes", processes, *arguments)
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_learn_what_one_does(tmp_path, monkeypatch):
    launched(TESTS / "many.py", tmp_path)
    of_two = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    monkeypatch.delenv("RANK", raising=False)
    many.learn(str(tmp_path))
    steps, weights, processes = json.loads((tmp_path / "0.json").read_text())
    assert processes == 1 and [two[2] for two in of_two] == [2, 2]
    assert of_two[0][:2] == of_two[1][:2]  # every process knows all losses, and has the same weights
    np.testing.assert_allclose(of_two[0][0], steps, rtol=1e-4)
    assert of_two[0][1] == pytest.approx(weights, rel=1e-4)


# What each process gets -------------------------------------------------------------------------------------------


def clips_of(batches):
    """The pitches of all their clips, which the test has made differ."""
    return sorted(batch.pitch[row, 0].item() for batch in batches for row in range(len(batch.pitch)))


@pytest.mark.parametrize(
    ("count", "processes", "parts"), [(8, 2, 1), (7, 3, 1), (8, 2, 2), (6, 2, 2), (7, 3, 2), (7, 2, 3)]
)
def test_processes_share_every_part_of_a_batch_and_pad_it_as_one_does(count, processes, parts):
    clips = [replace(clip, pitch=clip.pitch + row) for row, clip in enumerate(many.unequal(count))]
    whole = collate(clips, 3).split(parts)
    shares = [collate(clips, 3, share=(number, processes), parts=parts).split(parts) for number in range(processes)]
    for part, *shared in zip(whole, *shares, strict=True):
        assert clips_of(shared) == clips_of([part])
        for share in shared:
            assert len(share.text) and share.text.shape[1:] == part.text.shape[1:]
            assert share.mels.shape[1:] == part.mels.shape[1:] and share.pitch.shape[1:] == part.pitch.shape[1:]
            assert share.attention.shape[1:] == part.attention.shape[1:]


def test_more_processes_than_clips_are_refused():
    learner = many.a_learner()
    learner.processes = 4
    with pytest.raises(TrainingError, match="4 processes.*batches of 3 clips"):
        next(learner.batches(many.examples(3), seed=1))


@pytest.mark.parametrize(
    ("parts", "before", "now", "count", "fitted"),
    [
        (4, 1, 1, 4, 4), (4, 1, 2, 4, 2), (3, 1, 2, 4, 2), (3, 1, 2, 3, 1), (4, 1, 8, 8, 1), (2, 2, 2, 4, 2),
        (1, 4, 2, 4, 2),
    ],  # fmt: skip
)
def test_parts_of_a_batch_are_fitted_to_the_processes_that_go_on(parts, before, now, count, fitted):
    stored, learner = many.a_learner(), many.a_learner(batch_size=8)
    stored.parts, stored.processes, learner.processes = parts, before, now
    learner.load_state(stored.state(), stored.averaged)
    batch = next(learner.batches(many.unequal(count), seed=1))
    assert learner.parts == fitted and len(batch.text) == -(-count // now)


def test_parts_asked_for_are_no_fewer_when_a_run_goes_on():
    stored, learner = many.a_learner(), many.a_learner(accumulate=2)
    learner.load_state(stored.state(), stored.averaged)
    assert learner.parts == 2


# A whole training -------------------------------------------------------------------------------------------------


def test_settings_come_to_the_processes_as_they_were():
    plain = TrainConfig(minutes=3.0, schedule="fakeyou", speaker=True)
    own = TrainConfig(schedule=Exponential(A=5e-4), attention_dropout=0.2, decoder_dropout=0.0)
    learning = TrainConfig(learn=replace(many.STEADY, schedule=Exponential(decay_start=7)))
    for config in (plain, own, learning):
        assert config_from(json.loads(json.dumps(asdict(config)))) == config


@pytest.fixture
def light(monkeypatch, tmp_path):
    """A voice that trains in little time, here and in the processes."""
    monkeypatch.setattr(launch, "PROGRAM", (str(TESTS / "many.py"),))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return many.a_voice("Many", tmp_path)


def test_a_training_by_two_processes_is_one_run_that_stops_and_goes_on(light):
    config = TrainConfig(steps=4, previews=2, start="scratch", listener="", device="cpu", learn=many.STEADY)
    run = light.run_dir("main")
    steps = list(train_by(light, config, processes=2))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert [step.checkpoint for step in steps] == [None, "step-000002.pt", None, "step-000004.pt"]
    assert steps[1].preview.step == 2 and steps[1].preview.wave.size and steps[0].preview is None
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [step.loss for step in steps]  # one process alone has written

    going_on = train_by(light, replace(config, steps=1000), processes=2)
    assert next(going_on).step == 5
    going_on.close()
    path, newest = newest_checkpoint(run / "checkpoints")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert newest.step == lines[-1]["step"] < 1000
    assert [line["step"] for line in lines] == list(range(1, newest.step + 1))


def test_the_command_line_trains_in_processes_that_accelerate_launched(light):
    options = ("--steps", 2, "--start", "scratch", "--batch-size", 4)
    said = launched(TESTS / "many.py", "train", light.path, *options)
    assert said.count("8 clips") == said.count(f"run: {light.run_dir('main')}") == 1  # one of them speaks
    lines = [json.loads(line) for line in (light.run_dir("main") / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]  # and writes
    assert newest_checkpoint(light.run_dir("main") / "checkpoints")[1].step == 2


def test_the_processes_find_the_package_that_only_this_kernel_looks_for(light, monkeypatch):
    monkeypatch.setattr(launch, "PROGRAM", ("-c", "import sys; sys.exit(f'Error: looks in {sys.path}')"))
    with pytest.raises(TrainingError, match=re.escape(str(TESTS.parent))):
        next(train_by(light, TrainConfig(steps=1, device="cpu"), processes=2))


def test_windows_is_told_how_to_train_by_several(light, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(TrainingError, match="accelerate launch -m voiceclone train"):
        next(train_by(light, TrainConfig(steps=1), processes=2))


def test_what_the_processes_said_before_they_failed_is_told(light):
    config = TrainConfig(steps=4, start="/nowhere/base", listener="", device="cpu", learn=many.STEADY)
    with pytest.raises(TrainingError, match="2 processes failed.*nowhere/base"):
        list(train_by(light, config, processes=2))


# In a notebook ----------------------------------------------------------------------------------------------------


def test_the_live_view_follows_two_processes_and_stops_them(light, monkeypatch):
    config = TrainConfig(steps=1000, previews=500, start="scratch", listener="", device="cpu", learn=many.STEADY)
    view, told = TrainingView(light, config, processes=2), []
    monkeypatch.setattr(view, "tell", lambda kind, **content: told.append((kind, content)))
    view.resume()
    for _ in range(600):  # tenths of a second
        if "alignment" in view.figures or not view.running:
            break
        view._thread.join(0.1)
    assert view.condition == "training", view.problem
    view.stop()
    view._thread.join(60)
    assert view.condition == "stopped" and view.last.step >= 2
    assert {"curves", "alignment", "mels"} <= view.figures.keys()
    assert [content["preview"]["text"] for kind, content in told if kind == "preview"][0] == "Go."
    assert newest_checkpoint(view.run / "checkpoints")[1].step >= view.last.step  # nothing of it is lost
