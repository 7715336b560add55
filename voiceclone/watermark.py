"""A mark, made to go unheard, in everything the clone says, so that it can be told from a recording.

PerTh (Resemble AI, MIT), a network that hides a mark in the lowest 2 kHz of the spectrum where louder sound masks it,
and finds it again. The package carries its weights; they are used as data.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .audio import load, resample
from .errors import CheckpointError
from .files import package_file
from .weights import read_weights

if TYPE_CHECKING:
    from .voice import Voice

WEIGHTS = (
    "perth",
    "perth_net/pretrained/implicit/perth_net_250000.pth.tar",
    "a15bce457ebc53ce5e6c9c3f11df78cf7ee2bf9cdab0a798902135b4c4027670",
)
RATE = 32000  # Hz
N_FFT, HOP = 2048, 320  # samples
BANDS = 128  # of 1025: up to 2 kHz
WIDTH = 256  # channels
FLOOR_DB, RANGE_DB = -180.0, 195.0  # levels become 0 to 1 over this range
ACTIVE = 0.05  # share of the loudest moment's summed level from which a moment can carry the mark
SPEEDS = {"slow": 1.25, "normal": 1.0, "fast": 0.75}  # at which the mark is looked for: sound may have been stretched
SHORTEST_SECONDS = 0.5  # less is too short to hold a mark
CERTAIN = 0.5  # confidence from which a sound counts as marked


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    """Seven convolutions over time with leaky ReLUs between them."""
    sizes = [(inputs, WIDTH, 1), *[(WIDTH, WIDTH, 7)] * 5, (WIDTH, outputs, 1)]
    convolutions = [nn.Conv1d(before, after, kernel, padding=kernel // 2) for before, after, kernel in sizes]
    between = [layer for convolution in convolutions[:-1] for layer in (convolution, nn.LeakyReLU())]
    return nn.Sequential(*between, convolutions[-1])


class Watermark(nn.Module):
    """The network that writes the mark (`writer`) and those that look for it, one a speed (`readers`)."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = _layers(BANDS, BANDS)
        self.readers = nn.ModuleDict({speed: _layers(BANDS, 2) for speed in SPEEDS})

    def write(self, wave: torch.Tensor) -> torch.Tensor:
        """(samples,) at 32 kHz to (samples,) with the mark."""
        spectrum = _stft(wave)
        level = _level(spectrum)
        residual = self.writer(level[:, :BANDS]) * _active(level)
        gain = F.pad(10 ** (residual * RANGE_DB / 20), (0, 0, 0, spectrum.shape[1] - BANDS), value=1.0)
        window = torch.hann_window(N_FFT)
        return torch.istft(spectrum * gain, N_FFT, HOP, window=window, length=wave.shape[-1])[0]

    def read(self, wave: torch.Tensor) -> float:
        """Confidence, 0 to 1, that (samples,) at 32 kHz carries the mark."""
        level = _level(_stft(wave))
        active, bands = _active(level), level[:, :BANDS]
        marks, trusts = [], []
        for speed, reader in self.readers.items():
            size = int(bands.shape[2] * SPEEDS[speed])
            stretched = bands if speed == "normal" else F.interpolate(bands, size, mode="linear", align_corners=True)
            here = F.interpolate(active, size, mode="nearest")
            trust, mark = ((reader(stretched) * here).sum(2) / here.sum(2))[0]
            marks.append(mark)
            trusts.append(trust)
        return float((torch.stack(marks) * torch.softmax(torch.stack(trusts), 0)).sum().clamp(0, 1))


def _stft(wave: torch.Tensor) -> torch.Tensor:
    """(samples,) -> (1, 1025, frames) complex."""
    return torch.stft(wave[None], N_FFT, HOP, window=torch.hann_window(N_FFT), return_complex=True)


def _level(spectrum: torch.Tensor) -> torch.Tensor:
    """Levels of a spectrum, 0 at -180 dB and 1 at 15 dB."""
    return (20 * torch.log10(spectrum.abs().clamp(min=1e-9)) - FLOOR_DB) / RANGE_DB


def _active(level: torch.Tensor) -> torch.Tensor:
    """(1, 1, frames), 1 where there is sound that can carry a mark."""
    total = level.sum(1, keepdim=True)
    return (total > ACTIVE * total.max()).float()


@cache
def _network() -> Watermark:
    path = package_file(*WEIGHTS)
    state = read_weights(path).get("model", {})
    network = Watermark()
    names = {"encoder.layers": "writer"} | {f"decoder.{speed}_layers": f"readers.{speed}" for speed in SPEEDS}
    own = {}
    for theirs, ours in names.items():
        for index in range(7):  # here the ReLUs have numbers of their own
            for part in ("weight", "bias"):
                name = f"{theirs}.{index}.conv.{part}"
                if name not in state:
                    raise CheckpointError(f"{path} is no PerTh network: {name} is missing. Reinstall resemble-perth.")
                own[f"{ours}.{2 * index}.{part}"] = state[name]
    network.load_state_dict(own)
    return network.eval()


@torch.inference_mode()
def mark(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Hide the mark in a sound.

    Parameters
    ----------
    wave : np.ndarray, shape (samples,)
        Under half a second it is returned as it is.
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray, shape (samples,)
        float32; the mark is some 15 dB below it, where its own louder parts mask it.
    """
    if len(wave) < SHORTEST_SECONDS * sample_rate:
        return wave
    marked = _network().write(torch.from_numpy(resample(wave, sample_rate, RATE)).float())
    marked = resample(marked.numpy(), RATE, sample_rate)[: len(wave)]
    return np.pad(marked, (0, len(wave) - len(marked)))


@torch.inference_mode()
def confidence(wave: np.ndarray, sample_rate: int) -> float:
    """How sure it is, 0 to 1, that a sound (samples,) carries the mark; `CERTAIN` and more means yes."""
    if len(wave) < SHORTEST_SECONDS * sample_rate or not np.abs(wave).max() > 0:
        return 0.0
    return _network().read(torch.from_numpy(resample(wave, sample_rate, RATE)).float())


class Mark(NamedTuple):
    """What was found in one sound."""

    sound: str  # file name
    confidence: float  # 0 to 1
    marked: bool


def check(voice: Voice) -> tuple[Mark, ...]:
    """Look for the mark in all that a voice has said (``samples/``), and in one natural clip, which has none."""
    paths = [*sorted(voice.samples_dir.glob("[!.]*.wav")), *(voice.clip_path(clip.id) for clip in voice.usable()[:1])]
    marks = []
    for path in paths:
        found = confidence(*load(path))
        marks.append(Mark(f"{path.parent.name}/{path.name}", round(found, 2), found >= CERTAIN))
    return tuple(marks)
