"""HiFi-GAN that learns: what a generator is made of and written as, what it learns from, and that it learns."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_hifigan import HOP, SMALL, buzz, clip_of, tiny_weights

from voiceclone.audio import AudioConfig, log_mel
from voiceclone.errors import TrainingError, VoiceCloneError
from voiceclone.files import package_file
from voiceclone.vocoders import hifigan
from voiceclone.vocoders.aligned import SILENCE, AlignedClip, cut, mel_error
from voiceclone.vocoders.fitting import Budget, choose_pieces
from voiceclone.vocoders.hifigan_discriminators import Discriminators
from voiceclone.vocoders.hifigan_training import TuneConfig
from voiceclone.vocoders.hifigan_tuner import Tuner


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Those of a tiny generator, under the authors' names."""
    return tiny_weights()


# The generator to train -------------------------------------------------------------------------------------------


def test_a_generator_that_has_not_learned_is_written_as_it_was_read(weights):
    generator = hifigan.build_trainable(weights, "it")
    written = hifigan.authors_weights(generator)
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)


def test_the_universal_generator_is_written_in_the_authors_form():
    path = package_file(*hifigan.UNIVERSAL)
    read = torch.load(path, map_location="cpu", weights_only=True)["generator"]
    written = hifigan.authors_weights(hifigan.build_trainable(hifigan.read_generator(), path))
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in read.items()}
    assert all(torch.equal(written[name], read[name]) for name in read)


def test_weights_without_weight_norm_can_be_trained_too(weights):
    folded = {n: w.squeeze(2) if w.ndim == 4 else w for n, w in hifigan._without_weight_norm(weights).items()}
    mel = torch.randn(1, 80, 5)
    one, other = (hifigan.build_trainable(w, "it")(mel) for w in (weights, folded))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_gradient_passes_the_generators_changes_in_place(weights):
    torch.manual_seed(0)
    generator = hifigan.build_trainable(weights, "it").double()
    mel = torch.randn(1, 80, 2, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(mel)
    (gradient,) = torch.autograd.grad(generator(mel).square().sum(), mel)
    with torch.no_grad():  # in steps so small that hardly any of the activations crosses its bend
        ahead, behind = (generator(mel + step * direction).square().sum() for step in (1e-7, -1e-7))
    assert float((gradient * direction).sum()) == pytest.approx(float((ahead - behind) / 2e-7), rel=1e-4)


# Pieces -----------------------------------------------------------------------------------------------------------


def test_a_piece_is_the_wave_that_the_vocoder_makes_of_it():
    """`vocode` cuts off the first half hop of the first frame: so a piece from frame t begins half a hop before it."""
    wave = np.arange(HOP * 20, dtype=np.float32) / 1e4
    clip = AlignedClip("a", torch.arange(21.0).expand(80, 21), wave)
    mels, waves = cut([clip], [(0, 3), (0, 0)], 4, hop_length=HOP, frame_delay=HOP // 2)
    assert mels[0, 0].tolist() == [3, 4, 5, 6]
    assert waves[0, HOP // 2] == wave[3 * HOP]  # the sample on which frame 3 is centred
    np.testing.assert_array_equal(waves[0].numpy(), wave[3 * HOP - HOP // 2 : 7 * HOP - HOP // 2])
    assert waves[1, : HOP // 2].abs().max() == 0 and waves[1, HOP // 2 + 1] == wave[1]


def test_a_short_clip_is_followed_by_silence():
    clip = clip_of(buzz(0.1))
    mels, waves = cut([clip], [(0, 0)], 40, hop_length=HOP, frame_delay=HOP // 2)
    frames = clip.mel.shape[1]
    assert torch.equal(mels[0, :, :frames], clip.mel)
    assert (mels[0, :, frames:] == SILENCE).all()
    assert torch.equal(log_mel(torch.zeros(2048)), torch.full((1, 80, 9), SILENCE))  # so silence is what it means
    assert (waves[0, HOP // 2 + len(clip.wave) :] == 0).all() and waves.shape == (1, 40 * HOP)


def test_pieces_depend_on_seed_and_step_alone_and_come_from_everywhere():
    lengths = [10, 100, 3]
    found = [place for step in range(200) for place in choose_pieces(lengths, 8, 4, seed=1, step=step)]
    assert found[:8] == [p for step in (0, 1) for p in choose_pieces(lengths, 8, 4, seed=1, step=step)]
    assert choose_pieces(lengths, 8, 4, seed=2, step=0) != found[:4]
    assert all(0 <= start <= max(0, lengths[clip] - 8) for clip, start in found)
    share = np.bincount([clip for clip, _ in found]) / len(found)
    np.testing.assert_allclose(share, np.array(lengths) / 113, atol=0.05)
    assert {start for clip, start in found if clip == 1} >= {0, 92}


def test_a_budget_is_spent_by_what_comes_first():
    assert Budget(2, 100).spent(50, 30) == 0.5
    assert Budget(2, 100).spent(1, 90) == 0.75
    assert Budget(steps=4).spent(4, 1e9) == 1
    for wrong in (dict(), dict(minutes=0), dict(minutes=3, steps=-1)):
        with pytest.raises(VoiceCloneError, match="above zero"):
            Budget(**wrong)


# Learning ---------------------------------------------------------------------------------------------------------


def tuner(weights, config: TuneConfig, clips: int = 1) -> Tuner:
    torch.manual_seed(0)
    judges = Discriminators(config.narrower)
    return Tuner(hifigan.build_trainable(weights, "it"), judges, config, clips=clips)


def lesson(clip: AlignedClip, config: TuneConfig, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    places = choose_pieces([clip.mel.shape[1]], config.piece, config.batch_size, seed=0, step=step)
    return cut([clip], places, config.piece, hop_length=HOP, frame_delay=HOP // 2)


def heard(learner: Tuner, counts: dict[int, float]) -> list[float]:
    """What the judges weigh after so many steps, each of which takes such a share of the budget."""
    weights = []
    for count, passed in counts.items():
        for _ in range(count):
            learner.school(passed)
        weights.append(round(learner.judges, 6))
    return weights


def test_the_judges_are_heard_when_they_have_learned(weights):
    config = TuneConfig(alone_steps=100, alone_share=0.2, **SMALL)
    assert heard(tuner(weights, config), {99: 0.0, 1: 0.0, 50: 0.0, 49: 0.0, 700: 0.0}) == [0, 0, 0.5, 0.99, 1]
    assert heard(tuner(weights, config), {9: 0.02, 1: 0.02, 5: 0.02, 10: 0.02}) == [0, 0, 0.5, 1]
    learner = tuner(weights, config)
    assert heard(learner, {15: 0.02}) == [0.5]
    other = tuner(weights, config)
    other.load_state(learner.state())
    assert heard(other, {10: 0.001}) == [0.6]  # where the budget was lengthened, and each step takes less of it
    older = {name: value for name, value in learner.state().items() if name not in ("schooling", "pieces")}
    other.load_state(older | {"step": 125})
    assert (other.judges, other.epoch) == (0.25, 250)  # as if every step had been taken alike, of two pieces each


def test_a_tiny_generator_learns_a_clip(weights):
    config = TuneConfig(steps=40, learning_rate=2e-3, alone_steps=10, alone_share=1.0, **SMALL)
    clip, learner = clip_of(buzz()), tuner(weights, config)
    before, given = mel_error(vocoder_of(learner), [clip]), deepcopy(weights)
    learned = []
    for step in range(config.steps):
        learned.append(learner.learn(*lesson(clip, config, step)))
        learner.school(1 / config.steps)
    after = mel_error(vocoder_of(learner), [clip])
    assert after < 0.8 * before
    assert all(torch.equal(weights[name], given[name]) for name in weights)  # which others may begin with, too
    assert [one.judges > 0 for one in learned[:12]] == [False] * 10 + [False, True]
    alone = [one.discriminator_loss for one in learned[:10]]
    assert alone[-1] < alone[0]  # and the judges learn to tell


def vocoder_of(learner: Tuner) -> hifigan.HifiGan:
    generator = hifigan.build_generator(hifigan.authors_weights(learner.generator), "it")
    return hifigan.HifiGan(generator, AudioConfig())


@pytest.mark.parametrize("mel_weight", [45.0, 0.0])  # the mel loss outweighs the others: without it they are seen
def test_one_step_descends_the_papers_losses(weights, mel_weight):
    """With the judges at full weight, against the gradient of the sum in the paper."""
    config = TuneConfig(steps=9, alone_steps=1, mel_weight=mel_weight, **SMALL)
    clip, learner = clip_of(buzz()), tuner(weights, config)
    learner.learn(*lesson(clip, config, 0))
    learner.school(1.0)
    mels, waves = lesson(clip, config, 1)
    twin, judges = tuner(weights, config), Discriminators(8)
    twin.generator.load_state_dict(learner.generator.state_dict())
    learned = learner.learn(mels, waves)
    judges.load_state_dict(learner.discriminators.state_dict())  # as they were after their own step
    made = twin.generator(mels)
    whole = replace(AudioConfig(), f_max=11025.0)
    mel = (log_mel(made, whole) - log_mel(waves, whole)).abs().mean()
    judges.eval()
    natural, fake = judges(waves), judges(made)
    adversarial = sum(((1 - one.score) ** 2).mean() for one in fake)
    layers = [pair for a, b in zip(natural, fake, strict=True) for pair in zip(a.features, b.features, strict=True)]
    feature = sum((x - y).abs().mean() for x, y in layers)
    (mel_weight * mel + adversarial + 2 * feature).backward()
    assert learned.judges == 1
    assert learned.mel_loss == pytest.approx(mel.item(), rel=1e-3)
    assert learned.adversarial_loss == pytest.approx(adversarial.item(), rel=1e-3)
    assert learned.feature_loss == pytest.approx(feature.item(), rel=1e-3)
    ours, paper = (torch.cat([p.grad.flatten() for p in g.parameters()]) for g in (learner.generator, twin.generator))
    # Not to the last digit: where a band is all but silent its logarithm magnifies the rounding.
    assert float(torch.nn.functional.cosine_similarity(ours, paper, dim=0)) > 0.999
    assert float(ours.norm() / paper.norm()) == pytest.approx(1, abs=0.02)


def test_the_weights_and_rates_are_the_papers_and_fakeyous():
    config = TuneConfig()
    assert (config.mel_weight, config.feature_weight, config.betas, config.rate_decay) == (45, 2, (0.8, 0.99), 0.999)
    assert (config.discriminator_rate, config.learning_rate, config.piece * HOP) == (2e-4, 3e-5, 8192)


def test_the_rates_fall_by_a_thousandth_a_pass(weights):
    learner = tuner(weights, TuneConfig(steps=9, rate_decay=0.5, learning_rate=1e-4, **SMALL), clips=4)
    rates = []
    for step in range(5):
        rates.append(learner.rate)
        learner.learn(*lesson(clip_of(buzz(0.2)), learner.config, step))
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5])  # two clips a step, four in all
    assert learner.of_judges.param_groups[0]["lr"] / learner.of_generator.param_groups[0]["lr"] == pytest.approx(2)


def test_learning_that_diverges_stops(weights):
    learner = tuner(weights, TuneConfig(steps=1, **SMALL))
    with pytest.raises(TrainingError, match="loss of step 0 is nan"):
        learner.learn(torch.full((2, 80, 6), torch.nan), torch.zeros(2, 6 * HOP))


def test_a_gradient_that_is_no_number_leaves_the_generator_as_it_is(weights):
    config = TuneConfig(steps=1, **SMALL)
    learner = tuner(weights, config)
    learner.generator.conv_post.bias.register_hook(lambda gradient: gradient * np.inf)
    with pytest.raises(TrainingError, match="gradient of step 0 is"):
        learner.learn(*lesson(clip_of(buzz(0.2)), config, 0))
    kept = hifigan.authors_weights(learner.generator)
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


def test_a_loss_that_is_no_number_leaves_the_generator_as_it_is(weights):
    config = TuneConfig(steps=1, mel_weight=float("inf"), **SMALL)
    learner = tuner(weights, config)
    with pytest.raises(TrainingError, match="loss of step 0 is inf"):
        learner.learn(*lesson(clip_of(buzz(0.2)), config, 0))
    kept = hifigan.authors_weights(learner.generator)
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


class Memory:
    """One that holds so many rows of a batch in a module, and no more."""

    def __init__(self, module: torch.nn.Module, rows: int) -> None:
        self.rows, self.tried = rows, []
        module.register_forward_pre_hook(self)

    def __call__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.tried.append(len(inputs[0]))
        if len(inputs[0]) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_where_memory_does_not_suffice_fewer_pieces_are_learned_from(weights):
    config = TuneConfig(steps=9, **SMALL | {"batch_size": 8})
    clip, learner = clip_of(buzz()), tuner(weights, config, clips=4)
    memory = Memory(learner.generator, 2)
    with pytest.warns(UserWarning) as warned:
        learner.learn(*lesson(clip, config, 0))
    assert [str(one.message).partition(" from ")[2][:8] for one in warned] == ["4 pieces", "2 pieces"]
    assert (memory.tried, learner.batch_size, learner.step, learner.epoch) == ([8, 4, 2], 2, 1, 0.5)
    twin = tuner(weights, replace(config, batch_size=2), clips=4)
    twin.learn(*(part[:2] for part in lesson(clip, config, 0)))
    for one, other in zip(learner.generator.parameters(), twin.generator.parameters(), strict=True):
        assert torch.equal(one, other)  # nothing of the first tries is left
    resumed = tuner(weights, config, clips=4)
    resumed.load_state(learner.state())
    assert resumed.epoch == 0.5


def test_memory_that_ends_while_the_judges_speak_leaves_them_learning(weights):
    config = TuneConfig(steps=9, **SMALL | {"batch_size": 4})
    clip, learner = clip_of(buzz()), tuner(weights, config)
    learner.school(2.0 / config.alone_share)
    judge = learner.discriminators.msd.discriminators[2]
    speaks = Memory(judge, 100)
    judge.register_forward_hook(lambda *_: setattr(speaks, "rows", 4))  # natural and made: enough to learn, once
    with pytest.warns(UserWarning, match="from 2 pieces"):
        learned = learner.learn(*lesson(clip, config, 0))
    assert speaks.tried == [8, 8, 4, 4] and learned.adversarial_loss > 0
    before = judge.conv_post.bias.clone()
    learner.learn(*lesson(clip, config, 1))
    assert not torch.equal(judge.conv_post.bias, before)


def test_a_memory_too_small_for_a_piece_ends_the_tuning(weights):
    config = TuneConfig(steps=9, **SMALL)
    learner = tuner(weights, config)
    Memory(learner.generator, 0)
    too_small = pytest.raises(TrainingError, match="single piece of 6 frames. Free it")
    with pytest.warns(UserWarning, match="from 1 piece "), too_small:
        learner.learn(*lesson(clip_of(buzz()), config, 0))
    assert learner.step == learner.pieces == 0


def test_another_device_goes_on_with_its_own_kernels(weights):
    config = TuneConfig(steps=9, **SMALL)
    learner, other = tuner(weights, config), tuner(weights, config)
    learner.learn(*lesson(clip_of(buzz(0.2)), config, 0))
    state = learner.state()
    for name in ("of_generator", "of_judges"):
        state[name]["param_groups"][0]["fused"] = True  # as a GPU's checkpoint has it
    other.load_state(state)
    assert not other.of_generator.param_groups[0]["fused"] and not other.of_judges.param_groups[0]["fused"]
