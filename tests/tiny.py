"""A Tacotron 2 so small that a step takes milliseconds, in the place of the `small` preset."""

from __future__ import annotations

from dataclasses import replace

from voiceclone.learn import LearnConfig
from voiceclone.tacotron2 import SMALL, LossConfig

SIZES = dict(
    symbols_embedding_dim=16,
    attention_rnn_dim=24,
    attention_dim=8,
    attention_location_n_filters=4,
    attention_location_kernel_size=7,
    prenet_dim=12,
    decoder_rnn_dim=20,
    postnet_embedding_dim=16,
)
TINY = replace(SMALL, **SIZES)

QUICK = LearnConfig(
    batch_size=2,
    learning_rate=3e-3,
    warmup_steps=2,
    average=0.5,
    frame_dropout=0.1,
    frame_noise=0.1,
    loss=LossConfig(absolute=1.0, attention=0.5, gate_positive=5.0),
)
