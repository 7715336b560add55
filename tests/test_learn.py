"""An optimiser step learns, is undone by nothing that is not a number, and goes on where it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import QUICK, TINY

from voiceclone.audio import AudioConfig
from voiceclone.dataset import clip_example
from voiceclone.errors import TrainingError, VoiceCloneError
from voiceclone.learn import LearnConfig, Learner
from voiceclone.pretrain import mel_statistics
from voiceclone.tacotron2 import Tacotron2


@pytest.fixture(scope="module")
def examples(sample_takes):
    """Two spoken clips of the sample voice."""
    from voiceclone.audio import load
    from voiceclone.prompts import PROMPTS

    speaker = torch.nn.functional.normalize(torch.ones(TINY.speaker_dim), dim=0)
    return [
        clip_example(f"{n:04d}", PROMPTS[n - 1], load(sample_takes / f"{n:04d}-1.flac")[0], AudioConfig(), speaker)
        for n in (1, 2)
    ]


def a_learner(examples, config=QUICK):
    torch.manual_seed(0)
    model = Tacotron2(TINY)
    model.set_mel_statistics(*mel_statistics(examples))
    return Learner(model, config, device="cpu")


def run(learner, examples, steps, budget=20):
    batches = learner.batches(examples, seed=1)
    return [learner.learn(next(batches), learner.step / budget) for _ in range(steps)]


def everything(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_a_few_steps_lower_every_loss(examples):
    learner = a_learner(examples)
    steps = run(learner, examples, 20, budget=40)
    for part in ("loss", "mel_loss", "gate_loss", "attention_loss", "pitch_loss"):
        assert getattr(steps[-1], part) < getattr(steps[0], part), part
    assert not any(step.skipped for step in steps)
    assert learner.step == 20
    assert all(np.isfinite(step.grad_norm) and step.grad_norm > 0 for step in steps)


def test_validation_changes_nothing_and_knows_no_clips_as_nothing(examples):
    learner = a_learner(examples)
    before = everything(learner.plain)
    measures = learner.validate(examples)
    assert set(measures) == {"mel", "gate", "attention", "pitch"}
    assert all(np.isfinite(value) and value > 0 for value in measures.values())
    assert_same(everything(learner.plain), before)
    assert learner.validate([]) == {}


def test_clips_without_a_pitch_teach_none(examples):
    learner = a_learner(examples)
    before = everything(learner.plain.decoder.pitch_layer)
    learned = run(learner, [replace(example, pitch=None) for example in examples], 1)[0]
    assert learned.pitch_loss == 0 and learned.mel_loss > 0 and not learned.skipped
    assert_same(everything(learner.plain.decoder.pitch_layer), before)


# What is not a number ---------------------------------------------------------------------------------------------


def spoiled(batch, value=float("nan")):
    mels = batch.mels.clone()
    mels[0, 3, 40] = value
    return replace(batch, mels=mels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_skips_the_step_and_changes_nothing(examples, value):
    learner = a_learner(examples)
    batches = learner.batches(examples, seed=1)
    learner.learn(next(batches), 0.0)
    plain, averaged = everything(learner.plain), everything(learner.averaged)
    learned = learner.learn(spoiled(next(batches), value), 0.0)
    assert learned.skipped
    assert_same(everything(learner.plain), plain)  # running means of the batch norms included
    assert_same(everything(learner.averaged), averaged)
    assert not learner.learn(next(batches), 0.0).skipped
    assert all(tensor.isfinite().all() for tensor in everything(learner.averaged).values())
    assert np.isfinite(learner.validate(examples)["mel"])


def test_ten_bad_steps_running_end_the_training(examples):
    learner = a_learner(examples)
    batches = learner.batches(examples, seed=1)
    for _ in range(9):
        learner.learn(spoiled(next(batches)), 0.0)
    learner.learn(next(batches), 0.0)  # one good one forgives
    for _ in range(9):
        learner.learn(spoiled(next(batches)), 0.0)
    with pytest.raises(TrainingError, match="10 steps"):
        learner.learn(spoiled(next(batches)), 0.0)


# The average and the rate -----------------------------------------------------------------------------------------


def test_the_average_of_weights_that_stand_still_is_the_weights(examples):
    learner = a_learner(examples, replace(QUICK, average=0.9))
    with torch.no_grad():
        for parameter in learner.plain.parameters():
            parameter.add_(1.0)
    for learner.step in range(300):
        learner._average()
    for found, expected in zip(learner.averaged.parameters(), learner.plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_average_speaks_unless_there_is_none(examples):
    assert a_learner(examples).speaking is not a_learner(examples).plain
    learner = a_learner(examples, replace(QUICK, average=0.0))
    run(learner, examples, 1)
    assert learner.speaking is learner.plain


def test_the_rate_warms_up_and_ends_at_its_share(examples):
    learner = a_learner(examples, replace(QUICK, learning_rate=1e-3, warmup_steps=10, final_rate=0.05))
    warming = []
    for learner.step in range(10):
        warming.append(learner.rate(0.0))
    np.testing.assert_allclose(warming, 1e-4 * np.arange(1, 11), rtol=1e-6)
    falling = [learner.rate(share) for share in np.linspace(0, 1, 11)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(5e-5)
    assert learner.rate(1.3) == falling[-1]  # the last step may end after the budget
    assert learner.rate(0.5) == pytest.approx(1e-3 * (1 + 0.05) / 2)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"learning_rate": 0.0}, {"average": 1.0}, {"frame_dropout": 1.0}]
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(VoiceCloneError, match=next(iter(wrong))):
        LearnConfig(**wrong)


# Going on ---------------------------------------------------------------------------------------------------------


def test_a_learner_goes_on_as_if_nothing_had_happened(examples, tmp_path):
    whole = a_learner(examples)
    expected = run(whole, examples, 6)
    first = a_learner(examples)
    run(first, examples, 3)
    path = tmp_path / "state.pt"
    torch.save((first.state(), first.averaged.state_dict()), path)
    torch.manual_seed(99)
    state, weights = torch.load(path, weights_only=True)
    averaged = Tacotron2(TINY)
    averaged.load_state_dict(weights)
    second = Learner(Tacotron2(TINY), QUICK, device="cpu")
    second.load_state(state, averaged)
    assert run(second, examples, 3) == expected[3:]
    assert_same(everything(second.plain), everything(whole.plain))
    assert_same(everything(second.averaged), everything(whole.averaged))
