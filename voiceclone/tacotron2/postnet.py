"""Postnet: convolutions that sharpen the finished spectrogram (paper, section 2.2)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .config import Tacotron2Config
from .layers import normed_convolution


class Postnet(nn.Module):
    """Convolutions over time, tanh between them; the result is a correction to be added."""

    def __init__(self, config: Tacotron2Config) -> None:
        super().__init__()
        inner = [config.postnet_embedding_dim] * (config.postnet_n_convolutions - 1)
        pattern = config.n_mels + 1 if config.envelope_order else 0  # the harmonics, drawn beside the envelope
        widths = [config.n_mels + pattern, *inner, config.n_mels]
        gains = ["tanh"] * len(inner) + ["linear"]
        self.convolutions = nn.ModuleList(
            normed_convolution(before, after, config.postnet_kernel_size, gain=gain)
            for before, after, gain in zip(widths[:-1], widths[1:], gains, strict=True)
        )
        self.dropout = config.postnet_dropout
        self.final_dropout = config.postnet_dropout if config.postnet_final_dropout else 0.0

    def forward(
        self, mel: torch.Tensor, harmonics: torch.Tensor | None = None, inside: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(batch, n_mels, frames), and where pitch is said (batch, n_mels + 1, frames) -> the correction.

        `inside` (batch, 1, frames) is False after each sentence's end: none hears then what lies beyond its own.
        """
        x = mel if harmonics is None else torch.cat((mel, harmonics), 1)
        for convolution in self.convolutions[:-1]:
            x = x if inside is None else x * inside
            x = F.dropout(torch.tanh(convolution(x)), self.dropout, self.training)
        x = x if inside is None else x * inside
        return F.dropout(self.convolutions[-1](x), self.final_dropout, self.training)
