"""What several tests need: a real spoken clip, an empty voice, a small voice that is ready to train."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SAMPLE_TAKES = Path(__file__).parent.parent / "data" / "sample_voice" / "takes"


@pytest.fixture(autouse=True)
def the_same_chances():
    """What a test draws without a seed of its own is the same in every run."""
    if "torch" in sys.modules:  # else the test draws nothing
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def sample_takes() -> Path:
    """Folder of the sample voice's takes."""
    return SAMPLE_TAKES


@pytest.fixture(scope="session")
def speech() -> tuple[np.ndarray, int, str]:
    """A spoken sentence, its rate and its text."""
    from voiceclone.audio import load
    from voiceclone.prompts import PROMPTS

    wave, rate = load(SAMPLE_TAKES / "0001-1.flac")
    return wave, rate, PROMPTS[0]


@pytest.fixture
def voice(tmp_path):
    """An empty voice."""
    from voiceclone import Voice

    return Voice.create("Test Voice", root=tmp_path / "voices", consent="Test Person")


@pytest.fixture
def recorded(voice, sample_takes):
    """A voice with three takes."""
    from voiceclone.record import import_takes

    import_takes(voice, [sample_takes / f"{number:04d}-1.flac" for number in (1, 2, 3)])
    return voice


@pytest.fixture(scope="session")
def sample_voice(tmp_path_factory):
    """A voice of five sample clips with their prompts as transcripts, cleaned and tagged; not to be changed."""
    from dataclasses import replace

    from voiceclone import Voice
    from voiceclone.clean import clean
    from voiceclone.record import import_takes
    from voiceclone.tag import tag

    voice = Voice.create("Sample", root=tmp_path_factory.mktemp("voices"), consent="Test Person")
    import_takes(voice, [SAMPLE_TAKES / f"{number:04d}-1.flac" for number in range(1, 6)])
    recorded = [clip for clip in voice.clips if clip.take]
    voice.update(*(replace(c, transcript=c.prompt, source="prompt", state="accepted", checks="") for c in recorded))
    clean(voice, workers=1)
    tag(voice)
    return voice


@pytest.fixture(scope="session")
def trained(sample_voice, tmp_path_factory):
    """A copy of the sample voice with a tiny Tacotron 2 that has learned nothing; not to be changed."""
    import torch
    from tiny import TINY

    from voiceclone import Voice
    from voiceclone.tacotron2 import Tacotron2
    from voiceclone.tacotron2.checkpoint import Checkpoint, save_checkpoint

    voice = Voice.open(shutil.copytree(sample_voice.path, tmp_path_factory.mktemp("voices") / "trained"))
    torch.manual_seed(0)
    speaker = torch.nn.functional.normalize(torch.rand(256), dim=0)
    save_checkpoint(voice.run_dir("main") / "checkpoints" / "best.pt", Checkpoint(Tacotron2(TINY), 1, speaker))
    return voice


@pytest.fixture
def fresh(trained, tmp_path):
    """The same, of a test's own."""
    from voiceclone import Voice

    return Voice.open(shutil.copytree(trained.path, tmp_path / "voice"))
