"""Fine-tuning HiFi-GAN: what it learns from, that it learns, that it goes on, and what comes of it."""

from __future__ import annotations

import errno
import json
import shutil
import time
import warnings
import zipfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

from voiceclone import Voice, drive, widgets
from voiceclone.__main__ import main
from voiceclone.audio import AudioConfig, log_mel, save
from voiceclone.errors import CheckpointError, TrainingError, VoiceCloneError
from voiceclone.export import export, import_zip
from voiceclone.files import package_file
from voiceclone.synthesize import Synthesizer
from voiceclone.tacotron2 import Tacotron2
from voiceclone.tacotron2.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from voiceclone.vocoders import fitting, hifigan, load_vocoder, vocode
from voiceclone.vocoders.aligned import SILENCE, AlignedClip, aligned_clips, cut, mel_error
from voiceclone.vocoders.comparison import compare_vocoders
from voiceclone.vocoders.fitting import Budget, choose_pieces
from voiceclone.vocoders.hifigan_discriminators import Discriminators
from voiceclone.vocoders.hifigan_training import TuneConfig, tune
from voiceclone.vocoders.hifigan_tuner import Tuner
from voiceclone.vocoders.tuned import generator_of, tuned_vocoder
from voiceclone.weights import read_weights

HOP = AudioConfig().hop_length
SMALL = dict(narrower=8, batch_size=2, piece=6, device="cpu")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Those of a tiny generator, under the authors' names."""
    with np.load(Path(__file__).parent / "references" / "hifigan.npz") as file:
        return {k.removeprefix("weights/"): torch.from_numpy(file[k]) for k in file if k.startswith("weights/")}


@pytest.fixture(scope="module")
def start(weights, tmp_path_factory) -> str:
    """A tiny generator's file, in the place of the universal one."""
    path = tmp_path_factory.mktemp("start") / "g_00000001"
    torch.save({"generator": weights}, path)
    return str(path)


def buzz(seconds: float = 0.6) -> np.ndarray:
    """(samples,) of 110 Hz and its harmonics, which swells and fades."""
    time = np.arange(int(seconds * 22050)) / 22050
    sound = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 30))
    return (0.2 * sound * np.sin(np.pi * time / seconds) ** 2).astype(np.float32)


def clip_of(wave: np.ndarray, name: str = "0001") -> AlignedClip:
    return AlignedClip(name, log_mel(wave)[0], wave)


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
    alone = pytest.raises(TrainingError, match="single piece of 6 frames. Free it")
    with pytest.warns(UserWarning, match="from 1 piece "), alone:
        learner.learn(*lesson(clip_of(buzz()), config, 0))


def test_another_device_goes_on_with_its_own_kernels(weights):
    config = TuneConfig(steps=9, **SMALL)
    learner, other = tuner(weights, config), tuner(weights, config)
    learner.learn(*lesson(clip_of(buzz(0.2)), config, 0))
    state = learner.state()
    for name in ("of_generator", "of_judges"):
        state[name]["param_groups"][0]["fused"] = True  # as a GPU's checkpoint has it
    other.load_state(state)
    assert not other.of_generator.param_groups[0]["fused"] and not other.of_judges.param_groups[0]["fused"]


# A voice ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(sample_voice, tmp_path_factory):
    """A copy of the sample voice with a tiny Tacotron 2 that has learned nothing."""
    folder = tmp_path_factory.mktemp("voices") / "trained"
    shutil.copytree(sample_voice.path, folder)
    voice = Voice.open(folder)
    torch.manual_seed(0)
    speaker = torch.nn.functional.normalize(torch.rand(256), dim=0)
    save_checkpoint(voice.run_dir("main") / "checkpoints" / "best.pt", Checkpoint(Tacotron2(TINY), 1, speaker))
    return voice


@pytest.fixture
def fresh(trained, tmp_path):
    """The same for each test."""
    shutil.copytree(trained.path, tmp_path / "voice")
    return Voice.open(tmp_path / "voice")


def test_the_spectrograms_are_tacotrons_and_in_time_with_the_clips(trained):
    checkpoint = trained.run_dir("main") / "checkpoints" / "best.pt"
    clips = aligned_clips(trained, checkpoint)
    again = aligned_clips(trained, checkpoint)
    assert [clip.id for clip in clips] == [clip.id for clip in trained.usable()]
    for clip, twin in zip(clips, again, strict=True):
        natural = log_mel(clip.wave)[0]
        assert clip.mel.shape == natural.shape  # frame by frame the clip's
        assert not torch.allclose(clip.mel, natural, atol=0.5)  # but not its own
        assert torch.equal(clip.mel, twin.mel)


def settings(start: str, **changes) -> TuneConfig:
    return TuneConfig(**(dict(steps=4, start=start, alone_steps=1) | SMALL | changes))


def test_a_generator_is_tuned_and_spoken_with(fresh, start):
    steps = list(tune(fresh, settings(start)))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    name = tuned_vocoder(fresh)
    assert name == f"hifigan:{fresh.run_dir('main') / 'vocoder' / 'generator.pt'}"
    mel = log_mel(buzz())[0]
    tuned, untuned = vocode(load_vocoder(name), mel), vocode(load_vocoder("hifigan", start), mel)
    assert tuned.shape == untuned.shape and not np.array_equal(tuned, untuned)
    lines = (fresh.run_dir("main") / "vocoder" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert json.loads(lines[0])["mel_loss"] == pytest.approx(steps[0].learned.mel_loss)
    assert list(tune(fresh, settings(start))) == []  # the budget is spent


def test_the_command_line_says_when_nothing_is_left_to_learn(fresh, start, capsys):
    own = str(fresh.path)
    assert main(["tune", own, "--steps", "1", "--start", start]) == 0
    assert "nothing left" not in capsys.readouterr().out
    assert main(["tune", own, "--steps", "1", "--start", start]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "nothing left to learn" in said[0] and said[1] == f"vocoder: {tuned_vocoder(fresh)}"


def test_a_notebook_tunes_and_says_when_nothing_is_left(fresh, start, capsys):
    widgets.tune_vocoder(fresh, settings(start, steps=1))
    assert "step 1 " in capsys.readouterr().out
    widgets.tune_vocoder(fresh, settings(start, steps=1))
    assert "Nothing left to tune" in capsys.readouterr().out


def test_what_speaks_lies_between_the_start_and_what_was_learned(fresh, start, weights):
    folder = fresh.run_dir("main") / "vocoder"
    list(tune(fresh, settings(start, steps=2, share=0.25)))
    learned = read_weights(folder / "checkpoints" / "step-000002.pt")["generator"]
    speaks = read_weights(folder / "generator.pt")["generator"]
    assert speaks.keys() == weights.keys() and any(not torch.equal(learned[name], weights[name]) for name in weights)
    for name in weights:
        torch.testing.assert_close(speaks[name], 0.75 * weights[name] + 0.25 * learned[name], atol=1e-6, rtol=0)
    assert list(tune(fresh, settings(start, steps=2, share=1.0))) == []  # learns no more, and goes all the way
    speaks = read_weights(folder / "generator.pt")["generator"]
    assert all(torch.equal(speaks[name], learned[name]) for name in weights)
    assert [step.step for step in tune(fresh, settings(start, steps=3, share=1.0))] == [3]  # it is not from there


def test_a_zip_gives_back_the_tuned_vocoder_and_the_voice_speaks_with_it(fresh, start, tmp_path):
    list(tune(fresh, settings(start)))
    archive = export(fresh)
    shutil.move(fresh.runs_dir, tmp_path / "gone")  # nothing but the zip is left
    rebuilt = import_zip(archive, root=tmp_path / "elsewhere")
    there = Synthesizer.open(rebuilt)
    assert there.vocoder.name == "hifigan_tuned"
    mel = log_mel(buzz())[0]
    tuned = load_vocoder("hifigan", tmp_path / "gone" / "main" / "vocoder" / "generator.pt")
    np.testing.assert_array_equal(vocode(there.vocoder, mel), vocode(tuned, mel))
    assert not np.array_equal(vocode(there.vocoder, mel), vocode(load_vocoder("hifigan", start), mel))
    assert there.say("Yes.").wave.size
    assert "tuned to this voice" in (rebuilt.path / "README.md").read_text()
    assert list(tune(rebuilt, settings(start))) == []  # it knows that the budget was spent


def test_tuning_goes_on_from_what_a_zip_tells_of_what_was_learned(fresh, start, weights, tmp_path):
    folder = fresh.run_dir("main") / "vocoder"
    list(tune(fresh, settings(start, learning_rate=1e-3)))
    learned = read_weights(folder / "checkpoints" / "step-000004.pt")["generator"]
    speaks = read_weights(folder / "generator.pt")["generator"]
    assert any((learned[name] - speaks[name]).abs().max() > 1e-3 for name in learned)
    rebuilt = import_zip(export(fresh), root=tmp_path / "elsewhere")
    folder = rebuilt.run_dir("main") / "vocoder"
    (step,) = tune(rebuilt, settings(start, steps=5, learning_rate=1e-12, discriminator_rate=1e-12))
    assert (step.step, step.learned.judges) == (5, 0)  # of the five the last; judges who know nothing say nothing
    state = read_weights(folder / "checkpoints" / "step-000005.pt")
    after = read_weights(folder / "generator.pt")["generator"]
    for name in weights:
        torch.testing.assert_close(state["generator"][name], learned[name], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(after[name], speaks[name], atol=1e-6, rtol=1e-5)
        assert torch.equal(state["begun_with"][name], weights[name])
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5]


def test_the_judges_are_heard_no_less_where_the_budget_is_lengthened(fresh, start, tmp_path):
    how = dict(alone_steps=1000, alone_share=0.25)
    judges = [step.learned.judges for step in tune(fresh, settings(start, **how))]
    assert judges == [0, 0, 1, 1]
    rebuilt = import_zip(export(fresh), root=tmp_path / "elsewhere")
    assert [step.learned.judges for step in tune(fresh, settings(start, steps=12, **how))] == [1] * 8
    anew = [step.learned.judges for step in tune(rebuilt, settings(start, steps=8, **how))]
    assert anew == [0, 0, 0, 0.5]  # of the new budget two steps are a quarter


def test_a_run_speaks_with_its_own_vocoder_where_it_has_one(fresh, start):
    assert Synthesizer.open(fresh).vocoder.name == "hifigan"
    with pytest.raises(CheckpointError, match="No vocoder was tuned to the run 'main'.*voiceclone tune"):
        Synthesizer.open(fresh, vocoder="hifigan_tuned")
    list(tune(fresh, settings(start, steps=1)))
    own = Synthesizer.open(fresh).vocoder
    assert own.name == Synthesizer.open(fresh, vocoder="hifigan_tuned").vocoder.name == "hifigan_tuned"
    assert own.generator.conv_pre.out_channels != hifigan.load_hifigan().generator.conv_pre.out_channels  # the tiny one
    assert Synthesizer.open(fresh, vocoder="hifigan").vocoder.name == "hifigan"
    assert Synthesizer.open(fresh, vocoder=f"hifigan:{start}").vocoder.name == f"hifigan:{start}"
    shutil.copytree(fresh.run_dir("main") / "checkpoints", fresh.run_dir("other") / "checkpoints")
    assert Synthesizer.open(fresh, run="other").vocoder.name == "hifigan"  # which nothing was tuned to


def test_a_run_that_was_trained_on_says_once_that_its_vocoder_was_not(fresh, start, tmp_path, capsys):
    def trained_on(seed: int) -> None:
        torch.manual_seed(seed)
        best = fresh.run_dir("main") / "checkpoints" / "best.pt"
        save_checkpoint(best, replace(load_checkpoint(best), model=Tacotron2(TINY)))

    def warnings_of(voice: Voice, **how: str) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert Synthesizer.open(voice, **how).vocoder.name == how.get("vocoder", "hifigan_tuned")
        return [str(one.message) for one in caught]

    list(tune(fresh, settings(start, steps=1)))
    assert warnings_of(fresh) == warnings_of(import_zip(export(fresh), root=tmp_path / "elsewhere")) == []
    trained_on(1)
    assert warnings_of(fresh, vocoder="hifigan") == []
    (said,) = warnings_of(fresh)
    assert "run 'main' has been trained since" in said and "voiceclone tune VOICE --run main" in said
    assert warnings_of(fresh) == []
    list(tune(fresh, settings(start, steps=1)))
    assert warnings_of(fresh) == []
    trained_on(2)
    capsys.readouterr()
    assert main(["say", str(fresh.path), "Yes.", "-o", str(tmp_path / "yes.wav")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "trained since" in line]
    assert len(lines) == 1 and lines[0].startswith("voiceclone: The run 'main'")


def test_going_on_gives_what_would_have_been(fresh, start, tmp_path):
    shutil.copytree(fresh.path, tmp_path / "twin")
    twin = Voice.open(tmp_path / "twin")
    whole = list(tune(fresh, settings(start)))
    interrupted = tune(twin, settings(start))
    first = [next(interrupted), next(interrupted)]
    interrupted.close()  # as a disconnected notebook does
    kept = twin.run_dir("main") / "vocoder" / "checkpoints"
    assert [path.name for path in kept.iterdir()] == ["step-000002.pt"]
    rest = list(tune(twin, settings(start)))
    assert [step.learned for step in first + rest] == [step.learned for step in whole]
    one, other = (
        read_weights(voice.run_dir("main") / "vocoder" / "generator.pt")["generator"] for voice in (fresh, twin)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_torn_checkpoint_is_passed_over_and_another_start_begins_anew(fresh, start):
    list(tune(fresh, settings(start, steps=2)))
    kept = fresh.run_dir("main") / "vocoder" / "checkpoints"
    (kept / "step-000009.pt").write_bytes((kept / "step-000002.pt").read_bytes()[:-1000])
    assert [step.step for step in tune(fresh, settings(start, steps=3))] == [3]
    assert [path.name for path in kept.iterdir()] == ["step-000003.pt"]
    assert [step.step for step in tune(fresh, settings(start, steps=1, resume=False))] == [1]


def test_another_start_begins_anew_whatever_its_file_is_called(fresh, start, weights, tmp_path):
    list(tune(fresh, settings(start, steps=2)))
    other = tmp_path / "g_other"
    still = settings(str(other), steps=1, learning_rate=1e-12)
    for louder in (1.1, 1.2):  # the same name holds another generator the second time
        torch.save({"generator": weights | {"conv_post.bias": weights["conv_post.bias"] + louder}}, other)
        assert [step.step for step in tune(fresh, still)] == [1]
        speaks = read_weights(fresh.run_dir("main") / "vocoder" / "generator.pt")["generator"]
        torch.testing.assert_close(speaks["conv_post.bias"], weights["conv_post.bias"] + louder, atol=1e-6, rtol=0)
    with pytest.raises(VoiceCloneError, match="nowhere"):
        list(tune(fresh, settings(str(tmp_path / "nowhere.pt"))))


def test_of_a_voice_whose_one_clip_was_held_out_that_one_is_learned(fresh, start):
    list(tune(fresh, settings(start, steps=1)))
    held_out = json.loads((fresh.run_dir("main") / "split.json").read_text())["validation"]
    fresh.update(*(replace(clip, state="rejected") for clip in fresh.usable() if clip.id != held_out[0]))
    assert len(list(tune(fresh, settings(start, steps=1)))) == 1
    fresh.update(*(replace(clip, state="rejected") for clip in fresh.usable()))
    with pytest.raises(TrainingError, match="no clip to learn from"):
        list(tune(fresh, settings(start, steps=2)))


def test_a_voice_that_changed_is_learned_with_what_is_known(fresh, start):
    list(tune(fresh, settings(start, steps=2)))
    clip = fresh.clips[0]
    fresh.update(replace(clip, transcript="Another text."))
    assert [step.step for step in tune(fresh, settings(start, steps=1))] == [3]


def test_one_short_clip_is_enough(fresh, start):
    first, *others = fresh.usable()
    fresh.update(*(replace(clip, state="rejected") for clip in others))
    save(fresh.clip_path(first.id), buzz(0.3))  # shorter than a piece of 32 frames
    (fresh.run_dir("main") / "split.json").unlink(missing_ok=True)
    steps = list(tune(fresh, settings(start, steps=2, piece=32)))
    assert len(steps) == 2 and all(np.isfinite(step.learned.mel_loss) for step in steps)


# On a drive -------------------------------------------------------------------------------------------------------


class Drive:
    """A drive that refuses every file while it `fails`."""

    def __init__(self) -> None:
        self.fails, self._copy = False, drive._copy_whole

    def copy(self, source: Path, target: Path) -> None:
        if self.fails and target.is_relative_to(drive.DRIVE):
            raise OSError(errno.EIO, "Input/output error")
        self._copy(source, target)


@pytest.fixture
def on_drive(trained, tmp_path, monkeypatch):
    """The trained voice on a drive, and the drive; each machine is a folder beside it."""
    disk = Drive()
    monkeypatch.setattr(drive, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(drive, "WORK", tmp_path / "machine")
    monkeypatch.setattr(drive, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(drive, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(drive, "_copy_whole", disk.copy)
    shutil.copytree(trained.path, tmp_path / "drive" / "voice")
    yield Voice.open(tmp_path / "drive" / "voice"), disk
    disk.fails = False


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_tuning_is_kept_on_the_drive_and_goes_on_on_another_machine(on_drive, start, tmp_path, monkeypatch):
    voice, _ = on_drive
    there, here = (folder / "voice" / "runs" / "main" / "vocoder" for folder in (drive.DRIVE, drive.WORK))
    assert [step.step for step in tune(voice, settings(start, steps=2))] == [1, 2]
    assert content(there) == content(here)
    assert set(content(there)) == {"generator.pt", "config.json", "log.jsonl", "checkpoints/step-000002.pt"}
    monkeypatch.setattr(drive, "WORK", tmp_path / "other machine")
    assert list(tune(voice, settings(start, steps=2))) == []
    assert tuned_vocoder(voice) == f"hifigan:{there / 'generator.pt'}"
    steps = tune(voice, settings(start))
    assert next(steps).step == 3
    steps.close()  # as an interrupt does
    assert content(there) == content(drive.WORK / "voice" / "runs" / "main" / "vocoder")
    assert list(map(Path, content(there / "checkpoints"))) == [Path("step-000003.pt")]
    lines = (there / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert [step.step for step in tune(voice, settings(start, steps=1, resume=False))] == [1]
    assert [path.name for path in (there / "checkpoints").iterdir()] == ["step-000001.pt"]


def test_a_drive_that_refuses_everything_ends_no_tuning_and_what_was_tuned_speaks(on_drive, start, monkeypatch):
    voice, disk = on_drive
    run = voice.run_dir("main")
    list(tune(voice, settings(start, steps=1)))
    before = content(run / "vocoder")
    monkeypatch.setattr(drive, "PATIENCE", 0.1)
    disk.fails = True
    with pytest.warns(UserWarning) as warned:
        steps = []
        for step in tune(voice, settings(start, steps=6, save_minutes=1e-9)):
            steps.append(step.step)
            time.sleep(0.05)  # for the drive to have its say
    assert steps == [2, 3, 4, 5, 6]
    said = " ".join(str(one.message) for one in warned)
    assert "Input/output error" in said and "could not be copied" in said and "generator.pt" in said
    assert content(run / "vocoder") == before
    here = drive.WORK / "voice" / "runs" / "main" / "vocoder" / "generator.pt"
    assert tuned_vocoder(voice) == f"hifigan:{here}" and generator_of(run) == here
    mel = log_mel(buzz())[0]
    spoken = vocode(Synthesizer.open(voice).vocoder, mel)
    np.testing.assert_array_equal(spoken, vocode(load_vocoder("hifigan", here), mel))
    with zipfile.ZipFile(export(voice)) as archive:
        assert archive.read("runs/main/vocoder/generator.pt") == here.read_bytes()
        assert archive.read("runs/main/vocoder/config.json") == here.with_name("config.json").read_bytes()
    with pytest.warns(UserWarning, match=r"could not be copied.*run the training again"):
        assert list(tune(voice, settings(start, steps=6))) == []  # it knows that the budget was spent


def test_what_did_not_arrive_is_copied_by_the_next_session(on_drive, start):
    voice, _ = on_drive
    folder = voice.run_dir("main") / "vocoder"
    list(tune(voice, settings(start, steps=1)))
    kept = content(folder)
    shutil.rmtree(folder)
    assert list(tune(voice, settings(start, steps=1))) == []
    assert content(folder) == kept


def test_what_is_on_a_drive_that_cannot_be_read_is_not_begun_anew(on_drive, start, tmp_path, monkeypatch):
    voice, disk = on_drive
    list(tune(voice, settings(start, steps=1)))
    kept = content(voice.run_dir("main") / "vocoder")
    monkeypatch.setattr(drive, "WORK", tmp_path / "other machine")

    def unreadable(source, target):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(drive, "_copy_whole", unreadable)
        with pytest.raises(VoiceCloneError, match="Input/output error.*run the training again"):
            next(tune(voice, settings(start, steps=2)))
    assert content(voice.run_dir("main") / "vocoder") == kept


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    kept = fitting.Checkpoints(tmp_path)
    kept.save(1, {"step": 1})

    def full(*_, **__):
        raise VoiceCloneError("The disk is full")

    monkeypatch.setattr(fitting, "write_weights", full)
    with pytest.raises(VoiceCloneError, match="full"):
        kept.save(2, {"step": 2})
    assert kept.newest() == {"step": 1}


def test_without_consent_nothing_is_tuned(fresh, start):
    fresh.consent = replace(fresh.consent, who="")
    with pytest.raises(TrainingError, match="no recorded consent"):
        next(tune(fresh, settings(start)))


def test_vocoders_are_compared_on_the_same_spectrograms(fresh, start):
    with pytest.raises(VoiceCloneError, match="No vocoder was tuned"):
        compare_vocoders(fresh)
    names, done = (f"hifigan:{start}", "griffin_lim"), []
    rows = compare_vocoders(
        fresh, names, sentences=("Yes.",), engine="whisper", progress=lambda *count: done.append(count)
    )
    assert [row.vocoder for row in rows] == list(names) and done == [(1, 2), (2, 2)]
    checkpoint = fresh.run_dir("main") / "checkpoints" / "best.pt"
    split = json.loads((fresh.run_dir("main") / "split.json").read_text())
    held_out = [clip for clip in aligned_clips(fresh, checkpoint) if clip.id in split["validation"]]
    assert len(held_out) == 1
    assert rows[0].mel_error == pytest.approx(mel_error(load_vocoder(names[0]), held_out))
    assert rows[0].as_dict().keys() == {
        "vocoder", "mel_error", "word_error_rate", "likeness", "opinion_score", "failures",
    }  # fmt: skip


def test_the_mel_error_is_nought_for_the_sound_itself():
    class Parrot(hifigan.HifiGan):
        """Says the natural sound, whatever it is given."""

        def __init__(self, wave: np.ndarray) -> None:
            self.audio, self.frame_delay, self.wave = AudioConfig(), 0, torch.from_numpy(wave)

        def _speak(self, mel: torch.Tensor) -> torch.Tensor:
            return self.wave[None]

    wave = buzz()[: 40 * HOP]
    assert mel_error(Parrot(wave), [clip_of(wave)]) == pytest.approx(0, abs=1e-6)
    tenfold = mel_error(Parrot(wave * 0.1), [clip_of(wave)])
    assert 0.3 < tenfold <= np.log(10) + 1e-6  # each band is that much lower, but for those that were silent
