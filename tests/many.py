"""What the processes run that test_many_processes starts: a tiny model that learns clips of random frames."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import QUICK, TINY

from voiceclone import launch, listen, speaker, vocoders
from voiceclone import train as training
from voiceclone.__main__ import main as command_line
from voiceclone.audio import AudioConfig
from voiceclone.dataset import Example
from voiceclone.learn import Learner
from voiceclone.tacotron2 import PRESETS, LossConfig, Tacotron2
from voiceclone.vocoders.base import Vocoder
from voiceclone.voice import Clip, Voice

SYMBOLS, FRAMES = 12, 36
LOSSES = ("loss", "mel_loss", "gate_loss", "attention_loss", "pitch_loss")

# Without dropout and noise, which every process draws for itself.
PLAIN = replace(
    TINY, encoder_dropout=0.0, prenet_dropout=0.0, attention_dropout=0.0, decoder_dropout=0.0, postnet_dropout=0.0
)
STEADY = replace(QUICK, batch_size=4, frame_dropout=0.0, frame_noise=0.0,
                 loss=LossConfig(absolute=1.0, contrast=1.0, attention=0.5))  # fmt: skip


def examples(count: int = 8) -> list[Example]:
    """Clips of random frames, each with a pitch in more of them than the one before."""
    made = []
    for number in range(count):
        random = np.random.default_rng(number)
        ends = np.linspace(0, FRAMES, SYMBOLS + 1)[1:].astype(np.float32)
        ids = random.integers(64, 148, SYMBOLS)
        mel = torch.from_numpy(random.normal(-5, 2, (80, FRAMES)).astype(np.float32))
        speaker = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=256).astype(np.float32)), dim=0)
        pitch = np.where(random.random(FRAMES) < (number + 1) / (count + 1), 150, 0).astype(np.float32)
        made.append(Example(f"{number:04d}", "text", ids, mel, ends, speaker, pitch))
    return made


def unequal(count: int = 8) -> list[Example]:
    """`examples`, each without one symbol more of its beginning, and without that symbol's frames."""
    made, each = [], FRAMES // SYMBOLS
    for symbols, clip in enumerate(examples(count)):
        frames = symbols * each
        cut = {"ids": clip.ids[symbols:], "mel": clip.mel[:, frames:], "ends": clip.ends[symbols:] - frames}
        made.append(replace(clip, pitch=clip.pitch[frames:], **cut))
    return made


def a_learner(**changes: int) -> Learner:
    torch.manual_seed(0)
    return Learner(Tacotron2(PLAIN), replace(STEADY, **changes), device="cpu")


def learn(folder: str) -> None:
    """Six steps, the second three in two parts by a learner that goes on from the first's state."""
    learner, steps = a_learner(), []
    batches = learner.batches(unequal(), seed=1)
    for _ in range(3):
        steps.append(learner.learn(next(batches), learner.step / 10))
    other = Learner(Tacotron2(PLAIN), STEADY, device="cpu")
    other.load_state(learner.state() | {"parts": 2}, learner.averaged)
    batches = other.batches(unequal(), seed=1)
    for _ in range(3):
        steps.append(other.learn(next(batches), other.step / 10))
    content = [[getattr(step, loss) for loss in (*LOSSES, "grad_norm")] for step in steps]
    weights = sum(float(tensor.double().abs().sum()) for tensor in other.averaged.state_dict().values())
    Path(folder, f"{os.environ.get('RANK', 0)}.json").write_text(json.dumps([content, weights, other.processes]))


class Hum(Vocoder):
    """Faster than any vocoder: a hum as long as the spectrogram."""

    name, audio = "hum", AudioConfig()

    def _speak(self, mel):
        return 0.1 * torch.sin(torch.arange(256 * mel.shape[2]) / 30).expand(len(mel), -1)


def make_light(patch: pytest.MonkeyPatch) -> None:
    """Let a training take little time: a tiny preset, clips of random frames, a short preview that is a hum."""
    patch.setitem(PRESETS, "small", PLAIN)
    patch.setattr(training, "voice_examples", lambda *given: examples())
    patch.setattr(training, "_voice_embedding", lambda voice: torch.ones(256) / 16)
    patch.setattr(speaker, "embed", lambda *given: np.ones(256) / 16)
    patch.setattr(listen, "PREVIEW_SENTENCES", ("Go.",))
    patch.setattr(vocoders, "load_vocoder", lambda *given, **more: Hum())


def a_voice(name: str, root: Path) -> Voice:
    """A voice that may be trained; its one clip is silent, since `make_light` gives others."""
    voice = Voice.create(name, root=root, consent="Test Person")
    voice.clips_dir.mkdir()
    soundfile.write(voice.clip_path("0001"), np.zeros(2205), 22050)
    voice.update(Clip("0001", transcript="Go.", state="accepted"))
    return voice


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 2:
        learn(sys.argv[1])
        sys.exit()
    make_light(pytest.MonkeyPatch())
    if sys.argv[1] == "train":
        sys.exit(command_line(sys.argv[1:]))
    launch.main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
