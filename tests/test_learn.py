"""An optimiser step learns, is undone by nothing that is not a number, and goes on where it was."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from many import LOSSES, PLAIN, STEADY, unequal
from many import examples as random_examples
from tiny import QUICK, TINY

from voiceclone.audio import AudioConfig
from voiceclone.dataset import clip_example, mel_statistics
from voiceclone.errors import TrainingError, VoiceCloneError
from voiceclone.learn import LearnConfig, Learner, learn_config
from voiceclone.schedule import FAKEYOU, Exponential
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
    for name in LOSSES:
        assert getattr(steps[-1], name) < getattr(steps[0], name), name
    assert not any(step.skipped for step in steps)
    assert learner.step == 20
    assert all(np.isfinite(step.grad_norm) and step.grad_norm > 0 for step in steps)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles for a processor with g++, which is not here")
def test_a_compiled_loop_learns_what_the_plain_one_learns():
    learned = []
    for compiled in (False, True):
        torch.manual_seed(0)
        learner = Learner(Tacotron2(PLAIN), replace(STEADY, compile=compiled), device="cpu")
        learned += [run(learner, unequal(), 3)]
    for plain, other in zip(*learned, strict=True):
        assert other.loss == pytest.approx(plain.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(plain.grad_norm, rel=1e-4)


def test_a_machine_that_cannot_compile_says_so(monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(TrainingError, match="cannot compile here.*no-such-compiler.*Train without compile"):
        run(a_learner(random_examples(), replace(STEADY, compile=True)), random_examples(), 1)


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


def test_the_average_remembers_little_of_its_start(examples):
    learner = a_learner(examples, replace(QUICK, average=0.999))
    before = everything(learner.averaged)
    run(learner, examples, 1)
    for name, weight in learner.plain.named_parameters():
        torch.testing.assert_close(learner.averaged.state_dict()[name], 0.1 * before[name] + 0.9 * weight)


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
    "wrong",
    [
        {"batch_size": 0}, {"learning_rate": 0.0}, {"average": 1.0}, {"frame_dropout": 1.0}, {"accumulate": 0},
        {"mixed_precision": "fp8"},
    ],  # fmt: skip
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(VoiceCloneError, match=next(iter(wrong))):
        LearnConfig(**wrong)


# Memory and precision ---------------------------------------------------------------------------------------------


def steady(**changes):
    """A learner of clips of random frames, without anything random in its steps."""
    torch.manual_seed(0)
    return Learner(Tacotron2(PLAIN), replace(STEADY, **changes), device="cpu")


def assert_learned_alike(some, others, rtol):
    for one, other in zip(some, others, strict=True):
        for name in (*LOSSES, "grad_norm"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=rtol), name


def frozen_norms(learner):
    """Batch norms that normalise by what they have seen before, so that parts of a batch are like the whole."""
    learner.model.train = lambda mode=True: torch.nn.Module.train(learner.model, False)
    return learner


def test_a_batch_taken_in_parts_counts_as_one_taken_at_once():
    clips = unequal()  # in length, and in how much of it has a pitch
    whole = run(frozen_norms(steady()), clips, 3)
    for parts in (2, 4):
        assert_learned_alike(run(frozen_norms(steady(accumulate=parts)), clips, 3), whole, rtol=1e-5)


def too_large(model, inputs):
    """A memory for two clips."""
    if len(inputs[0]) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_batch_that_memory_does_not_hold_is_taken_in_parts_and_learns_the_same():
    clips = random_examples()
    expected = run(frozen_norms(steady(accumulate=2)), clips, 3)
    learner = frozen_norms(steady())
    learner.plain.register_forward_pre_hook(too_large)
    steps = run(learner, clips, 3)
    assert_learned_alike(steps, expected, rtol=1e-6)
    assert learner.parts == 2 and learner.step == 3
    assert "4 clips at once" in steps[0].notes[0] and "2 parts" in steps[0].notes[0]
    assert steps[1].notes == ()
    other = steady()
    other.load_state(learner.state(), learner.averaged)
    assert other.parts == 2  # a resumed run does not try again what did not fit


def test_running_out_of_memory_half_way_leaves_the_batch_norms_alone():
    clips, learner = random_examples(), steady()
    learner.plain.postnet.register_forward_hook(lambda module, inputs, output: too_large(module, inputs))
    run(learner, clips, 1)
    assert learner.plain.postnet.convolutions[0][1].num_batches_tracked == 2  # parts, and nothing of the first try


def test_a_memory_too_small_for_one_clip_ends_the_training():
    learner = steady()

    def full(model, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    learner.plain.register_forward_pre_hook(full)
    with pytest.raises(TrainingError, match="single clip of 36 frames"):
        run(learner, random_examples(), 1)


@pytest.mark.parametrize(("precision", "rtol"), [("bf16", 0.02), ("fp16", 0.02)])
def test_lower_precisions_learn_nearly_the_same(precision, rtol):
    clips = random_examples()
    exact, rough = steady(), steady(mixed_precision=precision)
    rough.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=rough.scaler.is_enabled())
    assert_learned_alike(run(rough, clips, 3), run(exact, clips, 3), rtol=rtol)
    assert all(parameter.dtype == torch.float32 for parameter in rough.plain.parameters())


def test_gradients_beyond_half_precision_lower_the_scale_and_are_no_bad_steps():
    clips, learner = random_examples(), steady(mixed_precision="fp16")
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = everything(learner.plain)
    steps = run(learner, clips, 12, budget=100)  # ten bad steps would have ended it
    assert all(step.skipped for step in steps)
    assert learner.scaler.get_scale() == 2.0**28
    assert_same(everything(learner.plain), before)
    other = steady(mixed_precision="fp16")
    other.load_state(learner.state(), learner.averaged)
    assert other.scaler.get_scale() == 2.0**28
    other.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    assert not run(other, clips, 1)[0].skipped


def test_half_precision_still_ends_a_training_whose_loss_is_no_number():
    learner = steady(mixed_precision="fp16")
    batch = next(learner.batches(random_examples(), seed=1))
    with pytest.raises(TrainingError, match="10 steps"):
        for _ in range(10):
            learner.learn(replace(batch, mels=batch.mels * float("nan")), 0.0)


def test_batches_made_by_another_process_are_the_same():
    clips, learner = random_examples(), steady()
    here, there = learner.batches(clips, seed=1), learner.batches(clips, seed=1, workers=1)
    for _ in range(3):
        one, other = next(here), next(there)
        assert torch.equal(one.mels, other.mels) and torch.equal(one.text, other.text)


@pytest.mark.parametrize("count", [1, 5, 25, 100, 1000])
@pytest.mark.parametrize("preset", ["small", "full"])
def test_the_batch_fits_the_number_of_clips(preset, count):
    config = learn_config(preset, count, based=True, device="cpu")
    assert 1 <= config.batch_size <= count
    assert config.batch_size >= min(count, 5)


# FakeYou's schedule -----------------------------------------------------------------------------------------------


def fakeyou(iteration, A=3e-4, B=8000, C=0, decay_start=15000, minimum=1e-5):
    """What FakeYou's notebook computes before each iteration."""
    rate = A if iteration < decay_start else A * np.e ** (-(iteration - decay_start) / B) + C
    return max(rate, minimum)


def test_fakeyous_schedule_is_fakeyous():
    schedule = replace(FAKEYOU, stretch=False)
    for iteration in (0, 14999, 15000, 15001, 20000, 40000, 42300, 90000):
        assert schedule.at(iteration, 0.0) == pytest.approx(fakeyou(iteration))
    assert schedule.length == pytest.approx(42200, abs=20)


def test_fakeyous_schedule_falls_whole_however_few_the_steps_are():
    learner = Learner(Tacotron2(TINY), replace(QUICK, schedule=FAKEYOU), device="cpu")
    rates = [learner.rate(share) for share in np.linspace(0, 1, 101)]
    assert rates[0] == 3e-4 and rates[-1] == pytest.approx(1e-5)
    assert rates == sorted(rates, reverse=True)
    assert rates.count(3e-4) == 36  # 15,000 of 42,200
    np.testing.assert_allclose(rates, [fakeyou(share * FAKEYOU.length) for share in np.linspace(0, 1, 101)])


@pytest.mark.parametrize(
    "wrong", [{"A": 0.0}, {"B": 0.0}, {"C": -1.0}, {"min_learning_rate": 1.0}, {"decay_start": -1}]
)
def test_schedules_that_cannot_be_are_refused(wrong):
    with pytest.raises(VoiceCloneError, match="no schedule"):
        Exponential(**wrong)


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
