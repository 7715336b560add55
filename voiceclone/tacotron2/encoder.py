"""Encoder: symbols become one vector each that knows its neighbours (paper, section 2.2)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .config import Tacotron2Config
from .layers import lstm_precision, mask_from_lengths, normed_convolution


class Encoder(nn.Module):
    """Three convolutions for the neighbourhood (5 symbols each), then a bidirectional LSTM for the sentence."""

    def __init__(self, config: Tacotron2Config) -> None:
        super().__init__()
        width = config.symbols_embedding_dim
        self.convolutions = nn.ModuleList(
            normed_convolution(width, width, config.encoder_kernel_size, gain="relu")
            for _ in range(config.encoder_n_convolutions)
        )
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.dropout = config.encoder_dropout
        self.mask_padding = config.mask_encoder

    def forward(self, embedded: torch.Tensor, lengths: torch.Tensor, *, apart: bool = False) -> torch.Tensor:
        """Encode a batch of texts.

        Parameters
        ----------
        embedded : torch.Tensor, shape (batch, symbols, symbols_embedding_dim)
        lengths : torch.Tensor, shape (batch,)
            Symbols in each text, in any order.
        apart : bool
            Encode each text as if it were alone, whatever the config says of padding.

        Returns
        -------
        torch.Tensor, shape (batch, symbols, symbols_embedding_dim)
            Zero after each text's end.
        """
        inside = mask_from_lengths(lengths, embedded.shape[1]).unsqueeze(1) if apart or self.mask_padding else None
        x = embedded.transpose(1, 2)  # (batch, symbols, channels) -> (batch, channels, symbols)
        for convolution in self.convolutions:
            x = x if inside is None else x * inside
            x = F.dropout(F.relu(convolution(x)), self.dropout, self.training)
        x = x.transpose(1, 2)  # (batch, channels, symbols) -> (batch, symbols, channels)
        with lstm_precision(x) as x:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            encoded, _ = self.lstm(packed)
        return nn.utils.rnn.pad_packed_sequence(encoded, batch_first=True, total_length=embedded.shape[1])[0]
