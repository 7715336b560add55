"""HiFi-GAN's generator with a third of its multiplications, which on a CPU are nearly all that it does.

A convolution is a product in frequencies. So the input is cut into short tiles, each tile's samples are turned into
frequencies, these are multiplied by the kernel's, and turned back; the tiles overlap by what wraps around within them
("overlap-save"). All three are products of matrices, at which every machine is fast, and the wave is that of the plain
generator: it differs by no more than the order of summation makes it differ in float32.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .hifigan import SLOPE, Generator

CACHED = 2**19  # numbers that are convolved at once: what they become on the way is still in the cache when it is used
MARGIN = 512  # samples of silence on both sides of a strip; no convolution reads or writes further


class Transform(NamedTuple):
    """The matrices between samples and frequencies, for one size of tile and one of kernel."""

    analysis: torch.Tensor  # (rows, tile), of the input
    kernel: torch.Tensor  # (rows, kernel_size), of the kernel
    synthesis: torch.Tensor  # (outputs, rows), of their products; outputs = tile - kernel_size + 1


@cache
def transform(tile: int, kernel_size: int) -> Transform:
    """The Fourier transform of real tiles, in rows by threes, Gauss's way to multiply complex numbers.

    (a + bi) (c + di) = (p - r) + (p + q) i with p = (a + b) c, q = a (d - c), r = b (c + d).
    """
    angle = 2 * math.pi / tile * torch.outer(torch.arange(tile // 2 + 1), torch.arange(tile)).double()
    cos, sin = angle.cos(), angle.sin()  # (frequencies, tile)
    share = torch.full((len(cos), 1), 2 / tile).double()  # of each frequency in a sample
    share[[0, -1]] /= 2
    both = slice(1, -1)  # the first and the last frequency have no sine, and so p alone
    analysis = torch.cat((cos - sin, cos[both], -sin[both]))
    kernel = torch.cat((cos, (sin - cos)[both], (cos + sin)[both]))  # conjugated: looks ahead, as torch's convolutions
    synthesis = torch.cat(((cos - sin) * share, (-sin * share)[both], (-cos * share)[both]))
    outputs = tile - kernel_size + 1
    return Transform(analysis.float(), kernel[:, :kernel_size], synthesis[:, :outputs].t().float().contiguous())


class TiledConvolution:
    """A convolution along time that keeps its length, of a leaky ReLU of its input.

    Parameters
    ----------
    layer : nn.Conv2d
        With as many outputs as inputs; its kernel is one pixel high.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        self.channels, kernel_size, self.dilation = layer.in_channels, layer.kernel_size[1], layer.dilation[1]
        self.before = self.dilation * (kernel_size - 1) // 2  # samples that an output looks back
        self.tile = 2 * kernel_size + 8  # samples; larger ones need fewer products, but more work to make them
        self.outputs = self.tile - kernel_size + 1  # of each tile
        self.analysis, kernel, self.synthesis = transform(self.tile, kernel_size)
        weight = layer.weight[:, :, 0].double().permute(2, 1, 0)  # (out, in, kernel_size) -> (kernel_size, in, out)
        self.weight = torch.tensordot(kernel, weight, 1).float()  # (rows, in, out)
        self.bias = self.tile * layer.bias  # frequency 0 is the mean

    def __call__(self, x: torch.Tensor, out: torch.Tensor, *, add: bool = False) -> None:
        """Convolve a strip (MARGIN + time + MARGIN, channels) into another one, or add to what that one holds."""
        span, length = self.outputs * self.dilation, len(x) - 2 * MARGIN  # a tile's outputs are `dilation` apart
        each = max(1, CACHED // (span * self.channels))
        tiles = -(-length // span)
        for first in range(0, tiles, each):
            count = min(each, tiles - first)
            at = MARGIN + first * span
            made = self._tiles(x, at - self.before, count)
            to = out[at : at + count * span].view(count, self.outputs, self.dilation, self.channels).transpose(0, 1)
            (to.add_ if add else to.copy_)(made)
        out[MARGIN + length :].zero_()

    def _tiles(self, x: torch.Tensor, start: int, count: int) -> torch.Tensor:
        """The outputs (outputs, count, dilation, channels) of so many tiles whose inputs begin at `start`."""
        channels, dilation, span = self.channels, self.dilation, self.outputs * self.dilation
        shape, strides = (self.tile, count, dilation, channels), (dilation * channels, span * channels, channels, 1)
        tiles = x[start:].as_strided(shape, strides).clone(memory_format=torch.contiguous_format)
        F.leaky_relu_(tiles, SLOPE)
        rows = torch.mm(self.analysis, tiles.view(self.tile, -1)).view(len(self.weight), -1, channels)
        products = torch.bmm(rows, self.weight)
        products[0].add_(self.bias)
        return torch.mm(self.synthesis, products.flatten(1)).view(self.outputs, *shape[1:])


class TiledGenerator:
    """Speaks as the generator does that it is made of, whose weights it copies.

    Parameters
    ----------
    generator : Generator
        On the CPU, without weight norm.
    """

    @torch.no_grad()
    def __init__(self, generator: Generator) -> None:
        self.conv_pre, self.ups, self.conv_post = generator.conv_pre, generator.ups, generator.conv_post
        blocks = [
            [(TiledConvolution(first), TiledConvolution(second)) for first, second in block.pairs]
            for block in generator.resblocks
        ]
        each = generator.blocks_each
        self.levels = [blocks[at : at + each] for at in range(0, len(blocks), each)]

    def __call__(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, n_mels, frames) -> (batch, frames * hop_length) within [-1, 1]."""
        return torch.stack([self._speak(each) for each in mel])

    def _speak(self, mel: torch.Tensor) -> torch.Tensor:
        """(n_mels, frames) -> (frames * hop_length,)."""
        x = self.conv_pre(mel[None, :, None].contiguous(memory_format=torch.channels_last))
        for up, blocks in zip(self.ups, self.levels, strict=True):
            x = self._residual(up(F.leaky_relu_(x, SLOPE)), blocks)
        return torch.tanh_(self.conv_post(F.leaky_relu_(x)))[0, 0, 0]

    def _residual(self, image: torch.Tensor, blocks: list) -> torch.Tensor:
        """The mean of a level's residual blocks, (1, channels, 1, time) -> the same."""
        _, channels, _, length = image.shape
        given = image[0, :, 0].t()  # (time, channels), as it lies in memory
        x, hidden, total = (image.new_zeros(MARGIN + length + MARGIN, channels) for _ in range(3))
        inside = slice(MARGIN, MARGIN + length)
        for block in blocks:
            x[inside] = given
            for first, second in block:
                first(x, hidden)
                second(hidden, x, add=True)
            total += x
        return total[inside].div_(len(blocks)).t()[None, :, None]
