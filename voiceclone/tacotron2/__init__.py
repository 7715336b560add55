"""Tacotron 2 in the boxes of the paper's figure: encoder, attention, decoder, postnet."""

from .checkpoint import load_nvidia, save_nvidia
from .config import FULL, PRESETS, SMALL, Tacotron2Config
from .loss import Counts, LossConfig, Losses, loss_counts, tacotron_loss
from .model import AttentionWindow, Tacotron2, TacotronOutput
from .warm_start import WarmStart, warm_start

__all__ = [
    "FULL",
    "PRESETS",
    "SMALL",
    "AttentionWindow",
    "Counts",
    "LossConfig",
    "Losses",
    "Tacotron2",
    "Tacotron2Config",
    "TacotronOutput",
    "WarmStart",
    "load_nvidia",
    "loss_counts",
    "save_nvidia",
    "tacotron_loss",
    "warm_start",
]
