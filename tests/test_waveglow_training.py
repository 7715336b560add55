"""Training WaveGlow on a voice: that it learns, that it goes on, what it keeps, and what comes of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceclone import Voice, drive
from voiceclone.__main__ import main
from voiceclone.audio import load, save
from voiceclone.errors import CheckpointError, TrainingError, VoiceCloneError
from voiceclone.synthesize import Synthesizer
from voiceclone.vocoders import load_vocoder
from voiceclone.vocoders.tuned import load_vocoder_of, waveglow_of
from voiceclone.vocoders.waveglow import load_waveglow
from voiceclone.vocoders.waveglow_network import WaveGlowNetwork, WaveGlowSizes
from voiceclone.vocoders.waveglow_training import Learner, WaveGlowConfig, nvidias_weights, tune_waveglow
from voiceclone.weights import read_weights, write_weights

SIZES = WaveGlowSizes(n_flows=4, n_early_every=2, n_layers=2, n_channels=8)


def settings(**changes) -> WaveGlowConfig:
    small = dict(steps=4, start="scratch", sizes=SIZES, batch_size=2, segment=2048, learning_rate=3e-3, device="cpu")
    return WaveGlowConfig(**(small | changes))


def tiny() -> WaveGlowNetwork:
    """Of few bands, for which a step takes a tenth of the time."""
    torch.manual_seed(0)
    return WaveGlowNetwork(replace(SIZES, n_mels=8))


def buzz(seconds: float = 0.5) -> np.ndarray:
    """(samples,) of 110 Hz and its harmonics, which swells and fades."""
    time = np.arange(int(seconds * 22050)) / 22050
    sound = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 20))
    return (0.2 * sound * np.sin(np.pi * time * 4) ** 2).astype(np.float32)


# The learner ------------------------------------------------------------------------------------------------------


def test_a_tiny_network_learns_a_sound():
    learner = Learner(tiny(), settings(), [buzz()])
    losses = [learner.learn() for _ in range(40)]
    assert losses[0] > -0.1  # rotations and nothing else: half the mean square of the sound
    assert np.mean(losses[-5:]) < losses[0] - 1.0  # nats a sample: each is at least 2.7 times more likely


def test_the_loss_of_a_wave_that_is_left_as_it_is_is_that_of_noise():
    """Rotations, and couplings that change nothing: half the mean square, of every wave alike."""
    waves = [buzz(0.5), buzz(0.02), buzz(0.05)]  # of several segments, shorter than a spectrogram, than a segment
    measured = Learner(tiny(), settings(), waves).loss_of(waves)
    taken = [waves[0][: len(waves[0]) // 2048 * 2048], np.pad(waves[1], (0, 1024 - len(waves[1]))), waves[2]]
    squares = sum(float(np.square(wave[: len(wave) // 8 * 8], dtype=np.float64).sum()) for wave in taken)
    assert measured == pytest.approx(squares / 2 / sum(map(len, taken)), rel=1e-2)


@pytest.mark.parametrize("seconds", [0.01, 0.05])
def test_a_clip_shorter_than_a_segment_is_learned_too(seconds):
    learner = Learner(tiny(), settings(segment=16000), [buzz(seconds), buzz(seconds + 0.01)])
    assert all(np.isfinite(learner.learn()) for _ in range(3))


def test_without_a_sound_it_is_said_what_to_do():
    with pytest.raises(TrainingError, match="no sound to learn from.*notebooks 01-03"):
        Learner(tiny(), settings(), [])


def test_training_that_diverges_stops_and_leaves_the_weights_as_they_were():
    learner = Learner(tiny(), settings(), [buzz() * np.nan])
    with pytest.raises(TrainingError, match="loss of step 0 is nan"):
        learner.learn()
    learner = Learner(tiny(), settings(), [buzz()])
    learner.network.WN[0].end.bias.register_hook(lambda gradient: gradient * np.inf)
    with pytest.raises(TrainingError, match="gradient of step 0 is"):
        learner.learn()
    assert all(torch.equal(a, b) for a, b in zip(learner.network.parameters(), tiny().parameters(), strict=True))


def test_a_batch_that_memory_does_not_hold_is_halved_and_that_is_said():
    def learned(batch_size: int, most: int) -> Learner:
        learner = Learner(tiny(), settings(batch_size=batch_size), [buzz()])

        def too_large(module, inputs):
            if len(inputs[0]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")

        learner.network.upsample.register_forward_pre_hook(too_large)
        learner.learn()
        return learner

    with pytest.warns(UserWarning, match="each step learns from [42] pieces"):
        halved = learned(8, most=2)
    plain = learned(2, most=2)
    assert halved.batch_size == 2 and halved.step == 1
    assert all(torch.equal(a, b) for a, b in zip(halved.network.parameters(), plain.network.parameters(), strict=True))
    with pytest.raises(TrainingError, match="single segment of 2048 samples"):
        learned(1, most=0)


def test_weights_are_written_under_nvidias_names_and_as_nvidias_network_has_them():
    """Names and shapes are those of the reference, which NVIDIA's own network gave."""
    with np.load(Path(__file__).parent / "references" / "waveglow.npz") as file:
        theirs = {k.removeprefix("weights/"): file[k].shape for k in file if k.startswith("weights/")}
    network = WaveGlowNetwork(WaveGlowSizes(n_mels=4, n_flows=6, n_early_every=4, n_layers=3, n_channels=8))
    ours = nvidias_weights(network)
    assert {name: tuple(value.shape) for name, value in ours.items()} == theirs


@pytest.mark.parametrize("wrong", [dict(batch_size=0), dict(segment=-1), dict(segment=512), dict(learning_rate=0),
                                   dict(steps=0), dict(minutes=-1.0)])  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(VoiceCloneError, match=next(iter(wrong))):
        settings(**wrong)


@pytest.mark.parametrize("channels", [0, -4])
def test_a_network_without_channels_is_refused(channels):
    with pytest.raises(VoiceCloneError, match=f"{channels} channels"):
        settings(sizes=replace(SIZES, n_channels=channels))


# A voice ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path) -> Path:
    """A checkpoint to start with, in NVIDIA's form, whose couplings do something."""
    network = WaveGlowNetwork(SIZES)
    for coupling in network.WN:
        torch.nn.init.normal_(coupling.end.weight, std=0.02)
    path = tmp_path / "theirs.pt"
    torch.save({"model": nvidias_weights(network)}, path)
    return path


def folder_of(voice: Voice) -> Path:
    return voice.run_dir("main") / "waveglow"


def held_out(voice: Voice) -> list[np.ndarray]:
    names = json.loads((voice.run_dir("main") / "split.json").read_text())["validation"]
    return [load(voice.clip_path(name))[0] for name in names]


def test_a_voice_is_learned_so_that_clips_it_was_not_learned_from_are_likelier(fresh):
    """By far more than the loss of segments varies: nothing but learning makes speech so much likelier."""
    steps = list(tune_waveglow(fresh, settings(steps=24, validate_every=12)))
    assert [step.step for step in steps] == list(range(25))
    measured = {step.step: step.validation_loss for step in steps if step.validation_loss is not None}
    assert list(measured) == [0, 12, 24]
    assert measured[24] < measured[12] < measured[0] - 1.0
    assert steps[-1].best == min(measured.values())
    kept = load_waveglow(waveglow_of(fresh.run_dir("main"))).network
    clips = held_out(fresh)
    assert len(clips) == 1
    assert Learner(kept, settings(), clips).loss_of(clips) == pytest.approx(measured[24], abs=1e-4)
    lines = [json.loads(line) for line in (folder_of(fresh) / "log.jsonl").read_text().splitlines()]
    assert [line["validation_loss"] for line in lines if line["validation_loss"]] == list(measured.values())
    assert list(tune_waveglow(fresh, settings(steps=24))) == []  # the budget is spent


def test_what_is_held_out_is_not_learned(fresh):
    list(tune_waveglow(fresh, settings(steps=1)))
    names = json.loads((fresh.run_dir("main") / "split.json").read_text())["validation"]
    before = read_weights(folder_of(fresh) / "checkpoints" / "step-000001.pt")["state_dict"]
    for name in names:
        save(fresh.clip_path(name), buzz(1.0))  # another sound
    list(tune_waveglow(fresh, settings(steps=1, resume=False)))
    after = read_weights(folder_of(fresh) / "checkpoints" / "step-000001.pt")["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_gets_worse_is_not_kept(fresh):
    """At a rate that spoils what was learned, the weights that were best are those that speak."""
    list(tune_waveglow(fresh, settings(steps=8)))
    best = load_waveglow(waveglow_of(fresh.run_dir("main"))).network.state_dict()
    (worse,) = tune_waveglow(fresh, settings(steps=9, learning_rate=0.05))
    assert worse.validation_loss > worse.best + 0.5
    kept = load_waveglow(folder_of(fresh) / "waveglow.pt").network.state_dict()
    newest = read_weights(folder_of(fresh) / "checkpoints" / "step-000009.pt")["state_dict"]
    assert all(torch.equal(kept[name], best[name]) for name in best)
    assert not all(torch.equal(newest[name], best[name]) for name in best)


def test_what_has_diverged_is_not_gone_on_from(fresh):
    list(tune_waveglow(fresh, settings(steps=2)))
    with pytest.raises(TrainingError, match="lower learning rate"):
        list(tune_waveglow(fresh, settings(steps=9, learning_rate=3.0)))
    assert [path.name for path in (folder_of(fresh) / "checkpoints").iterdir()] == ["step-000002.pt"]
    assert [step.step for step in tune_waveglow(fresh, settings(steps=3))] == [3]


def test_going_on_gives_what_would_have_been(fresh, tmp_path):
    shutil.copytree(fresh.path, tmp_path / "twin")
    twin = Voice.open(tmp_path / "twin")
    whole = list(tune_waveglow(fresh, settings(validate_every=2)))
    interrupted = tune_waveglow(twin, settings(validate_every=2))
    first = [next(interrupted) for _ in range(4)]  # steps 0 to 3
    interrupted.close()  # as a disconnected notebook does
    assert [path.name for path in (folder_of(twin) / "checkpoints").iterdir()] == ["step-000003.pt"]
    rest = list(tune_waveglow(twin, settings(validate_every=2)))

    def said(steps):
        return [(step.step, step.loss, step.validation_loss, step.best) for step in steps]

    assert said(first + rest) == said(whole)
    for name in ("waveglow.pt", "checkpoints/step-000004.pt"):
        one, other = (read_weights(folder_of(voice) / name)["state_dict"] for voice in (fresh, twin))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_torn_checkpoint_is_passed_over(fresh):
    list(tune_waveglow(fresh, settings(steps=2)))
    kept = folder_of(fresh) / "checkpoints"
    (kept / "step-000009.pt").write_bytes((kept / "step-000002.pt").read_bytes()[:-1000])
    assert [step.step for step in tune_waveglow(fresh, settings(steps=3))] == [3]
    assert [path.name for path in kept.iterdir()] == ["step-000003.pt"]


def test_another_start_is_refused_and_told_how_to_begin_anew(fresh, start):
    list(tune_waveglow(fresh, settings(steps=2)))
    others = (settings(start=str(start), sizes=None, steps=3), settings(steps=3, sizes=replace(SIZES, n_channels=4)))
    complaint = r"learned from scratch .*2 layers and 8 channels\) as it was then, not .* [48] channels\).*--no-resume"
    for other in others:
        before = {p: p.read_bytes() for p in folder_of(fresh).rglob("*") if p.is_file()}
        with pytest.raises(TrainingError, match=complaint):
            list(tune_waveglow(fresh, other))
        assert {p: p.read_bytes() for p in folder_of(fresh).rglob("*") if p.is_file()} == before
    assert [step.step for step in tune_waveglow(fresh, replace(others[0], resume=False))] == [0, 1, 2, 3]
    lines = (folder_of(fresh) / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
    assert [step.step for step in tune_waveglow(fresh, settings(start=None, sizes=None, steps=4))] == [4]
    moved = start.rename(start.with_name("moved.pt"))  # the same weights under another name
    assert [step.step for step in tune_waveglow(fresh, settings(start=str(moved), sizes=None, steps=5))] == [5]


def test_what_began_from_scratch_goes_on_without_its_sizes_being_said_again(fresh):
    first = tune_waveglow(fresh, settings(steps=2))
    next(first)
    with pytest.raises(TrainingError, match="Another training is at work"):
        next(tune_waveglow(fresh, settings(steps=2)))
    assert [step.step for step in first] == [1, 2]
    assert [step.step for step in tune_waveglow(fresh, settings(start=None, sizes=None, steps=3))] == [3]


def test_a_voice_that_changed_is_learned_with_what_is_known_and_measured_anew(fresh):
    before = list(tune_waveglow(fresh, settings(steps=2)))
    newest = folder_of(fresh) / "checkpoints" / "step-000002.pt"
    write_weights(newest, read_weights(newest) | {"seconds": 1e6})
    assert next(tune_waveglow(fresh, settings(minutes=60, steps=None)), None) is None  # the time is spent
    (name,) = json.loads((fresh.run_dir("main") / "split.json").read_text())["validation"]
    save(fresh.clip_path(name), buzz(1.0))  # less likely than speech, so far
    steps = list(tune_waveglow(fresh, settings(steps=1)))
    assert [step.step for step in steps] == [2, 3]
    assert steps[0].best == steps[0].validation_loss > before[-1].best
    assert steps[-1].seconds < 1e6  # the budget begins anew


def test_a_voice_of_one_short_clip_is_learned_and_its_last_weights_are_kept(fresh):
    first, *others = fresh.usable()
    fresh.update(*(replace(clip, state="rejected") for clip in others))
    save(fresh.clip_path(first.id), buzz(0.3))
    steps = list(tune_waveglow(fresh, settings(steps=2, segment=16000)))
    assert [step.validation_loss for step in steps] == [None] * 3
    kept = load_waveglow(folder_of(fresh) / "waveglow.pt").network.state_dict()
    newest = read_weights(folder_of(fresh) / "checkpoints" / "step-000002.pt")["state_dict"]
    assert all(torch.equal(kept[name], newest[name]) for name in newest)
    fresh.update(replace(first, state="rejected"))
    with pytest.raises(TrainingError, match="no clip to learn from.*notebooks 01-03"):
        next(tune_waveglow(fresh, settings()))


def test_without_consent_nothing_is_learned(fresh):
    fresh.consent = replace(fresh.consent, who="")
    with pytest.raises(TrainingError, match="no recorded consent"):
        next(tune_waveglow(fresh, settings()))


def test_a_start_for_other_spectrograms_is_refused(fresh, tmp_path):
    path = tmp_path / "bands.pt"
    torch.save({"state_dict": WaveGlowNetwork(replace(SIZES, n_mels=40)).state_dict()}, path)
    with pytest.raises(CheckpointError, match="for 40 bands.*expected 80 and 256"):
        next(tune_waveglow(fresh, settings(start=str(path), sizes=None)))
    with pytest.raises(VoiceCloneError, match="has its own"):
        settings(start=str(path))


def test_it_is_kept_on_the_drive_and_goes_on_on_another_machine(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(drive, "WORK", tmp_path / "machine")
    shutil.copytree(trained.path, tmp_path / "drive" / "voice")
    voice = Voice.open(tmp_path / "drive" / "voice")
    list(tune_waveglow(voice, settings(steps=2)))
    there, here = folder_of(voice), drive.WORK / "voice" / "runs" / "main" / "waveglow"
    names = {"waveglow.pt", "config.json", "log.jsonl", "checkpoints/step-000002.pt"}
    for folder in (there, here):
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == names
    assert all((there / name).read_bytes() == (here / name).read_bytes() for name in names)
    monkeypatch.setattr(drive, "WORK", tmp_path / "other machine")
    assert [step.step for step in tune_waveglow(voice, settings(steps=3))] == [3]
    assert [path.name for path in (there / "checkpoints").iterdir()] == ["step-000003.pt"]


# Spoken with ------------------------------------------------------------------------------------------------------


def test_a_run_speaks_with_its_own_waveglow_only_where_asked_to(fresh):
    with pytest.raises(CheckpointError, match="No vocoder was tuned to the run 'main'.*--vocoder waveglow"):
        Synthesizer.open(fresh, vocoder="waveglow_tuned")
    list(tune_waveglow(fresh, settings(steps=1)))
    own = Synthesizer.open(fresh, vocoder="waveglow_tuned", denoise=0.1).vocoder
    assert own.name == "waveglow_tuned" and own.strength == 0.1
    assert Synthesizer.open(fresh).vocoder.name == "hifigan"
    with pytest.raises(VoiceCloneError, match=r"denoise=0\.1 was given to hifigan"):
        Synthesizer.open(fresh, denoise=0.1)
    with pytest.raises(CheckpointError, match="--vocoder hifigan"):
        load_vocoder_of(fresh.run_dir("main"), "hifigan_tuned")
    assert load_vocoder(f"waveglow:{waveglow_of(fresh.run_dir('main'))}").network.sizes == SIZES


def test_the_command_line_goes_from_voice_to_wav(fresh, tmp_path, capsys):
    voice, wav = str(fresh.path), str(tmp_path / "said.wav")
    tune = ["tune", voice, "--vocoder", "waveglow", "--start", "scratch", "--channels", "8"]
    assert main([*tune, "--steps", "1"]) == 0
    caught = capsys.readouterr()
    assert f"vocoder: waveglow:{folder_of(fresh) / 'waveglow.pt'}" in caught.out
    assert "step 0: loss" in caught.out + caught.err and "step 1: loss" in caught.out + caught.err
    assert main([*tune, "--steps", "1"]) == 0  # nothing is left to do
    say = ["say", voice, "Yes.", "-o", wav, "--vocoder", "waveglow_tuned", "--denoise", "0.1", "--takes", "1"]
    waves = []
    for seed in ("1", "1", "2"):
        assert main([*say, "--seed", seed]) == 0
        waves.append(load(wav)[0])
    assert np.array_equal(waves[0], waves[1]) and not np.array_equal(waves[0], waves[2])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--vocoder", "waveglow", "--share", "0.5"], "--share belongs to --vocoder hifigan, but waveglow was chosen"),
        (["--channels", "8"], "--channels belongs to --vocoder waveglow, but hifigan was chosen"),
        (["--vocoder", "waveglow", "--start", "theirs.pt", "--channels", "8"], "theirs.pt has its own"),
    ],
)
def test_options_of_the_other_vocoder_are_refused(options, complaint, fresh, capsys):
    assert main(["tune", str(fresh.path), *options]) == 1
    assert complaint in capsys.readouterr().err
