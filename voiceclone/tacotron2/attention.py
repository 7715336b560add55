"""Location-sensitive attention: which symbols is the decoder speaking now?

Chorowski et al. 2015, "Attention-based models for speech recognition", section 2.2, as used by the Tacotron 2 paper.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .config import Tacotron2Config
from .layers import convolution, linear


class LocationLayer(nn.Module):
    """Features of where the attention was: a convolution over the last and the summed weights, then a projection."""

    def __init__(self, config: Tacotron2Config) -> None:
        super().__init__()
        filters = config.attention_location_n_filters
        self.location_conv = convolution(2, filters, config.attention_location_kernel_size, bias=False)
        self.location_dense = linear(filters, config.attention_dim, bias=False, gain="tanh")

    def folded_kernel(self) -> torch.Tensor:
        """Both linear maps as one matrix, (2 * kernel_size, attention_dim): one product a step, not two."""
        kernel = torch.einsum("df,fck->ckd", self.location_dense.weight, self.location_conv.weight)
        return kernel.flatten(0, 1)  # (2, kernel_size, attention_dim) -> (2 * kernel_size, attention_dim)


class Attention(nn.Module):
    """Scores every symbol by the decoder's query, the symbol itself, and where the attention has been."""

    def __init__(self, config: Tacotron2Config) -> None:
        super().__init__()
        self.query_layer = linear(config.attention_rnn_dim, config.attention_dim, bias=False, gain="tanh")
        self.memory_layer = linear(config.symbols_embedding_dim, config.attention_dim, bias=False, gain="tanh")
        self.v = linear(config.attention_dim, 1, bias=False)
        self.location_layer = LocationLayer(config)

    def project_memory(self, memory: torch.Tensor) -> torch.Tensor:
        """(batch, symbols, width) -> (batch, symbols, attention_dim), once a sentence."""
        return self.memory_layer(memory)

    def forward(
        self,
        query: torch.Tensor,
        memory: torch.Tensor,
        projected_memory: torch.Tensor,
        past: torch.Tensor,
        outside: torch.Tensor | None,
        kernel: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of attention.

        Parameters
        ----------
        query : torch.Tensor, shape (batch, attention_rnn_dim)
            The attention LSTM's output.
        memory : torch.Tensor, shape (batch, symbols, width)
            The encoder's output.
        projected_memory : torch.Tensor, shape (batch, symbols, attention_dim)
            From `project_memory`.
        past : torch.Tensor, shape (batch, 2, symbols)
            The last step's weights and the sum of all steps' weights.
        outside : torch.Tensor or None, shape (batch, symbols)
            True where no attention may fall.
        kernel : torch.Tensor, shape (2 * kernel_size, attention_dim)
            From `LocationLayer.folded_kernel`.

        Returns
        -------
        context : torch.Tensor, shape (batch, width)
        weights : torch.Tensor, shape (batch, symbols)
            Sum to 1.
        """
        # A product over sliding windows: with two channels only, several times faster than a convolution.
        size = len(kernel) // 2
        windows = F.pad(past, (size // 2, size // 2)).unfold(2, size, 1)  # (batch, 2, symbols, kernel_size)
        windows = windows.transpose(1, 2).flatten(2)  # (batch, symbols, 2 * kernel_size)
        hidden = torch.tanh(torch.matmul(windows, kernel) + (projected_memory + self.query_layer(query).unsqueeze(1)))
        energies = self.v(hidden).squeeze(2)  # (batch, symbols, 1) -> (batch, symbols)
        if outside is not None:
            energies = energies.masked_fill(outside, -torch.inf)
        weights = torch.softmax(energies, dim=1)
        return torch.bmm(weights.unsqueeze(1), memory).squeeze(1), weights
