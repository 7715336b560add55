"""Training a voice: what is kept, how it goes on after an interruption, and how it refuses."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from followed import checkpoints, log, stopped_after
from tiny import QUICK, TINY

from voiceclone import train as training
from voiceclone.__main__ import main
from voiceclone.audio import AudioConfig
from voiceclone.errors import CheckpointError, TrainingError, VoiceCloneError
from voiceclone.tacotron2 import PRESETS
from voiceclone.tacotron2.checkpoint import load_checkpoint, newest_checkpoint
from voiceclone.text import FRONT_END
from voiceclone.train import TrainConfig, train
from voiceclone.vocoders.base import Vocoder
from voiceclone.voice import Consent, Voice


@pytest.fixture(scope="session")
def remembered():
    """What aligning and embedding found, so that each clip is looked at once in all these tests."""
    return {}


class Hum(Vocoder):
    """Faster than any vocoder: a hum as long as the spectrogram."""

    name, audio = "hum", AudioConfig()

    def _speak(self, mel):
        return 0.1 * torch.sin(torch.arange(256 * mel.shape[2]) / 30).expand(len(mel), -1)


@pytest.fixture
def hum(monkeypatch):
    monkeypatch.setattr("voiceclone.vocoders.load_vocoder", lambda *given, **more: Hum())


@pytest.fixture(autouse=True)
def tiny(monkeypatch, remembered):
    """A small preset that takes milliseconds a step and says two short texts."""
    from voiceclone import align, speaker

    def once(work):
        def looked_up(wave, rate, *rest):
            key = (work.__name__, wave.tobytes(), rate, *rest)
            if key not in remembered:
                remembered[key] = work(wave, rate, *rest)
            return remembered[key]

        return looked_up

    monkeypatch.setattr(align, "align", once(align.align))
    monkeypatch.setattr(speaker, "embed", once(speaker.embed))
    monkeypatch.setitem(PRESETS, "small", TINY)
    monkeypatch.setattr("voiceclone.listen.PREVIEW_SENTENCES", ("Go.", "No."))


def a_copy(sample_voice, folder, clips):
    """The sample voice with its first clips alone."""
    voice = Voice.open(shutil.copytree(sample_voice.path, folder / "voices" / "Sample"))
    voice.update(*(replace(clip, state="rejected") for clip in voice.usable()[clips:]))
    return voice


@pytest.fixture
def two(sample_voice, tmp_path, hum):
    """A voice of two clips, heard as a hum."""
    return a_copy(sample_voice, tmp_path, 2)


def config(**changes):
    settings = {"steps": 4, "previews": 2, "start": "scratch", "listener": "", "vocoder": "griffin_lim"}
    return TrainConfig(**(settings | {"device": "cpu", "learn": QUICK} | changes))


def assert_same_weights(one, other):
    one, other = (load_checkpoint(path).model.state_dict() for path in (one, other))
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


# What training gives ----------------------------------------------------------------------------------------------


def test_training_yields_every_step_and_keeps_everything(sample_voice, tmp_path):
    voice = a_copy(sample_voice, tmp_path, 5)
    steps = list(train(voice, config()))
    run = voice.run_dir("main")
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert [step.epoch for step in steps] == [0.5, 1.0, 1.5, 2.0]  # four clips to learn from, two a step
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)
    assert all(np.isfinite(step.loss) and step.learning_rate > 0 for step in steps)
    assert [step.checkpoint for step in steps] == [None, "step-000002.pt", None, "step-000004.pt"]

    assert log(voice) == [json.loads(json.dumps(step.as_dict())) for step in steps]
    assert "preview" not in log(voice)[1]

    preview = steps[1].preview
    assert steps[0].preview is None and preview.step == 2 and preview.text == "Go."
    assert preview.mel_predicted.shape == preview.mel_true.shape
    assert preview.alignment.shape[1] == len(preview.symbols)
    assert set(steps[1].validation) >= {"mel", "gate", "attention", "problems"}
    wave, rate = soundfile.read(run / "previews" / "step-000002.wav")
    assert rate == 22050 and len(wave) == len(preview.wave)
    with np.load(run / "previews" / "step-000002.npz") as file:
        assert file["alignment"].shape == preview.alignment.shape
        assert tuple(file["symbols"]) == preview.symbols

    assert checkpoints(voice) == ["best.pt", "step-000002.pt", "step-000004.pt"]
    best = load_checkpoint(run / "checkpoints" / "best.pt")
    assert best.model.config == TINY and best.speaker.shape == (256,) and best.step in (2, 4)
    written = json.loads((run / "config.json").read_text())
    assert written["preset"] == "small" and written["front_end"] == FRONT_END and written["clips"] == 4
    assert written["spent"]["steps"] == 4 and written["config"]["learn"]["batch_size"] == 2
    split = json.loads((run / "split.json").read_text())
    assert len(split["validation"]) == 1 and len(split["training"]) == 4


def test_only_the_newest_checkpoints_are_kept(two):
    list(train(two, config(steps=5, previews=5)))
    assert checkpoints(two) == ["best.pt", "step-000004.pt", "step-000005.pt"]
    assert len(list((two.run_dir("main") / "previews").glob("*.wav"))) == 5


def test_the_best_checkpoint_is_the_one_that_was_heard_best(two, monkeypatch):
    from voiceclone.listen import Listener

    worth, judge = iter([0.9, 0.2, 0.5]), Listener.judge
    monkeypatch.setattr(Listener, "judge", lambda *given: replace(judge(*given), worth=next(worth)))
    list(train(two, config(steps=3, previews=3)))
    assert load_checkpoint(two.run_dir("main") / "checkpoints" / "best.pt").step == 2


def test_a_real_base_is_adapted(two, monkeypatch):
    from voiceclone.tacotron2 import SMALL

    monkeypatch.setitem(PRESETS, "small", SMALL)
    monkeypatch.setattr("voiceclone.listen.PREVIEW_SENTENCES", ("Go.",))
    steps = list(train(two, config(steps=2, previews=1, start=None, learn=None)))
    assert steps[0].loss < 2.5  # a model that knows nothing begins above 6
    assert steps[-1].preview.wave.size
    assert load_checkpoint(two.run_dir("main") / "checkpoints" / "best.pt").model.config == SMALL


def test_a_budget_in_minutes_ends_the_training(two):
    steps = list(train(two, config(steps=None, minutes=0.02, previews=1)))
    assert 0 < len(steps) < 1000
    assert steps[-2].seconds < 1.2 <= steps[-1].seconds
    assert steps[-1].preview is not None
    assert list(train(two, config(steps=None, minutes=0.02, previews=1))) == []


# Going on ---------------------------------------------------------------------------------------------------------


def test_a_resumed_run_equals_one_that_was_never_interrupted(two):
    whole = list(train(two, config(run="whole", steps=6)))
    first = stopped_after(2, train(two, config(run="parts", steps=6)))
    second = stopped_after(2, train(two, config(run="parts", steps=6)))
    third = list(train(two, config(run="parts", steps=6)))
    parts = first + second + third
    assert [step.step for step in parts] == [1, 2, 3, 4, 5, 6]
    assert [step.loss for step in parts] == [step.loss for step in whole]
    assert [step.learning_rate for step in parts] == [step.learning_rate for step in whole]
    assert [line["step"] for line in log(two, "parts")] == [1, 2, 3, 4, 5, 6]
    assert third[0].seconds > second[-1].seconds > first[-1].seconds
    ends = [two.run_dir(run) / "checkpoints" / "step-000006.pt" for run in ("whole", "parts")]
    assert_same_weights(*ends)


def test_settings_chosen_by_the_training_stay_when_it_goes_on(two):
    rates = [step.learning_rate for step in train(two, config(run="whole", previews=1, learn=None))]
    first = stopped_after(2, train(two, config(previews=1, learn=None)))
    second = list(train(two, config(previews=1, learn=None)))
    assert [step.learning_rate for step in first + second] == rates


def test_a_spent_budget_yields_nothing_and_a_larger_one_goes_on(two, monkeypatch):
    list(train(two, config()))
    with monkeypatch.context() as patch:
        patch.setattr(training, "voice_examples", None)  # nothing is even prepared
        assert list(train(two, config())) == []
    assert [step.step for step in train(two, config(steps=6))] == [5, 6]


def test_the_command_line_says_that_a_budget_was_spent(two, capsys):
    list(train(two, config()))
    assert main(["train", str(two.path), "--steps", "4"]) == 0
    assert "nothing left to learn" in capsys.readouterr().out


def test_a_changed_transcript_is_trained_on_again(two):
    list(train(two, config()))
    clip = two.usable()[0]
    two.update(replace(clip, transcript=clip.transcript.replace(".", "!")))
    assert [step.step for step in train(two, config())] == [5, 6, 7, 8]  # goes on from what was learned
    assert list(train(two, config())) == []


def test_beginning_anew_forgets_the_run(two):
    list(train(two, config(steps=3)))
    steps = list(train(two, config(steps=2, resume=False)))
    assert [step.step for step in steps] == [1, 2]
    assert [line["step"] for line in log(two)] == [1, 2]
    assert checkpoints(two) == ["best.pt", "step-000001.pt", "step-000002.pt"]


def test_a_torn_newest_checkpoint_is_passed_over(two):
    stopped_after(3, train(two, config(steps=6, previews=3)))
    newest = two.run_dir("main") / "checkpoints" / "step-000003.pt"
    newest.write_bytes(newest.read_bytes()[:-3000])
    steps = list(train(two, config(steps=6, previews=3)))
    assert [step.step for step in steps] == [3, 4, 5, 6]
    assert [line["step"] for line in log(two)] == [1, 2, 3, 4, 5, 6]


def test_a_killed_process_leaves_a_run_that_goes_on(two):
    steps = train(two, config(steps=4, previews=2))
    for _ in range(3):
        next(steps)
    killed = two.path.parent / "killed"
    shutil.copytree(two.path, killed)  # as the disk is at this moment
    with (killed / "runs" / "main" / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "los')
    voice = Voice.open(killed)
    assert [step.step for step in train(voice, config(steps=4, previews=2))] == [3, 4]
    assert [line["step"] for line in log(voice)] == [1, 2, 3, 4]


# What cannot be trained -------------------------------------------------------------------------------------------


def test_another_preset_in_the_same_run_is_refused(two, monkeypatch):
    list(train(two, config()))
    monkeypatch.setitem(PRESETS, "full", replace(TINY, speaker_dim=0, normalise_mels=False))
    before = checkpoints(two)
    with pytest.raises(TrainingError, match="'small'.*'full'"):
        list(train(two, config(preset="full")))
    assert checkpoints(two) == before
    assert [step.step for step in train(two, config(preset="full", run="other"))] == [1, 2, 3, 4]


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_goes_on_from_no_other_start_than_its_own(two, finished):
    taken = train(two, config())
    list(taken) if finished else stopped_after(2, taken)
    for start in ("nvidia-ljspeech", "data/elsewhere"):
        with pytest.raises(TrainingError, match=f"main began with scratch, .*{start}"):
            list(train(two, config(start=start)))
    assert [step.step for step in train(two, config(start="scratch", steps=5))][-1] == 5
    assert [step.step for step in train(two, config(start=None, steps=6))] == [6]


def test_the_same_start_may_be_named_in_another_way(two, tmp_path, monkeypatch):
    list(train(two, config(steps=1)))
    shutil.copy(two.run_dir("main") / "checkpoints" / "best.pt", tmp_path / "start.pt")
    list(train(two, config(run="more", steps=1, start=str(tmp_path / "start.pt"))))
    monkeypatch.chdir(tmp_path)
    assert len(list(train(two, config(run="more", steps=2, start="start.pt")))) == 1
    assert len(list(train(two, config(run="more", steps=3, start=None)))) == 1
    with pytest.raises(TrainingError, match="more began with .*start.pt, .*'scratch'"):
        list(train(two, config(run="more", steps=4, start="scratch")))


def test_a_base_of_another_size_is_refused(two):
    with pytest.raises(CheckpointError, match="other sizes"):
        list(train(two, config(start=None)))


def test_without_consent_nothing_is_trained(two):
    voice = Voice(two.path, name="X", language="en", consent=Consent("", "2026-01-01", ""), created="2026-01-01")
    with pytest.raises(TrainingError, match="consent"):
        list(train(voice, config()))


def test_without_clips_it_says_which_notebooks_come_first(voice):
    with pytest.raises(TrainingError, match="no clip.*01.*02.*03"):
        list(train(voice, config()))


@pytest.mark.parametrize(
    "wrong", [{"preset": "large"}, {"steps": 0}, {"minutes": -1.0}, {"epochs": 0}, {"previews": 0}]
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(VoiceCloneError, match=next(iter(wrong))):
        TrainConfig(**wrong)


@pytest.mark.parametrize("clips", [1, 3])
def test_few_clips_train_and_the_user_is_told_what_to_expect(sample_voice, tmp_path, hum, clips):
    voice = a_copy(sample_voice, tmp_path, clips)
    steps = list(train(voice, config(steps=2, previews=1)))
    assert len(steps) == 2 and steps[-1].preview is not None
    (note,) = steps[0].notes
    assert note.startswith(f"{clips} clip{'s' if clips > 1 else ''} (") and "25 clips" in note
    assert steps[1].notes == ()


def test_a_clip_that_does_not_say_its_text_is_named(two):
    clip = two.usable()[1]
    two.update(replace(clip, transcript=" ".join([clip.transcript] * 20)))
    steps = stopped_after(1, train(two, config(previews=1)))
    assert any(clip.id in note and "notebook 02" in note for note in steps[0].notes)


def test_nothing_is_learned_from_what_is_no_number(two, monkeypatch):
    prepare = training.voice_examples

    def spoiled(*given):
        examples = prepare(*given)
        for example in examples:
            example.mel[0, 5] = float("nan")
        return examples

    monkeypatch.setattr("voiceclone.train.mel_statistics", lambda examples: (torch.zeros(80), torch.ones(80)))
    monkeypatch.setattr(training, "voice_examples", spoiled)
    with pytest.raises(TrainingError, match="not a finite number"):
        list(train(two, config(steps=30, previews=1)))
    _, newest = newest_checkpoint(two.run_dir("main") / "checkpoints")
    assert all(tensor.isfinite().all() for tensor in newest.model.state_dict().values())


# A full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
def test_a_full_disk_leaves_the_checkpoints_whole(two):
    import resource

    steps = train(two, config(steps=6, previews=3))
    for _ in range(2):
        next(steps)
    folder = two.run_dir("main") / "checkpoints"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["step-000002.pt"]) // 2, hard))  # writing beyond fails
    try:
        with pytest.raises(VoiceCloneError, match="disk is full"):
            list(steps)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: after[name] for name in before if name != "best.pt"}.items() <= after.items()
    assert load_checkpoint(folder / "step-000002.pt").step == 2
    load_checkpoint(folder / "best.pt")
    assert set(after) == set(before)
    assert [step.step for step in train(two, config(steps=6, previews=3))][0] == 3
