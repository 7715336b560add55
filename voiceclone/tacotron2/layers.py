"""What the boxes of the network are made of: layers initialised as NVIDIA's, and masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def linear(in_dim: int, out_dim: int, *, bias: bool = True, gain: str = "linear") -> nn.Linear:
    """Linear layer with Xavier-uniform weights for the activation that follows."""
    layer = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain(gain))
    return layer


def convolution(in_dim: int, out_dim: int, kernel_size: int, *, bias: bool = True, gain: str = "linear") -> nn.Conv1d:
    """Convolution over time that keeps the length, with Xavier-uniform weights."""
    layer = nn.Conv1d(in_dim, out_dim, kernel_size, padding=kernel_size // 2, bias=bias)
    nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain(gain))
    return layer


def normed_convolution(in_dim: int, out_dim: int, kernel_size: int, *, gain: str) -> nn.Sequential:
    """Convolution over time, then batch normalisation."""
    return nn.Sequential(convolution(in_dim, out_dim, kernel_size, gain=gain), nn.BatchNorm1d(out_dim))


def mask_from_lengths(lengths: torch.Tensor, size: int | None = None) -> torch.Tensor:
    """(batch,) lengths to a (batch, size) mask that is True inside; `size` is the longest unless given."""
    size = int(lengths.max()) if size is None else size
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


@contextmanager
def lstm_precision(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Give `x` in the type in which the LSTMs in the block shall compute.

    cuDNN before 9.13 has no LSTM in bfloat16, and torch's own would start thousands of kernels in its place. In
    float32 with TF32 cuDNN's is hardly slower.
    """
    if x.is_cuda and x.dtype == torch.bfloat16:
        with torch.autocast("cuda", enabled=False):
            yield x.float()
    else:
        yield x
