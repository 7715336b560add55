"""What training minimises: the paper's losses, and the attention held to where the sounds are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from .layers import mask_from_lengths
from .model import Tacotron2, TacotronOutput


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses. The paper's are 1 for squared error and gate, and nothing else."""

    absolute: float = 0.0  # of absolute beside squared error; it keeps weak detail that squares ignore
    attention: float = 0.0  # of the attention's cross-entropy with the phones' times
    gate_positive: float = 1.0  # of the few steps that end a sentence against the many that do not


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, each a scalar tensor."""

    total: torch.Tensor
    mel: torch.Tensor  # before and after the postnet, in the model's own (normalised) units
    gate: torch.Tensor
    attention: torch.Tensor


def tacotron_loss(
    model: Tacotron2, output: TacotronOutput, mels: torch.Tensor, attention: torch.Tensor | None, config: LossConfig
) -> Losses:
    """Error of both mels, cross-entropy of gate and attention; padding counts for nothing.

    Parameters
    ----------
    model : Tacotron2
        For the mel statistics: errors are measured in deviations, so that every band matters.
    output : TacotronOutput
        Of a teacher-forced pass.
    mels : torch.Tensor, shape (batch, n_mels, frames)
        The truth.
    attention : torch.Tensor or None, shape (batch, steps, symbols)
        Share of each step's time that belongs to each symbol.
    config : LossConfig
    """
    inside = mask_from_lengths(output.mel_lengths, mels.shape[2]).unsqueeze(1)
    count = inside.sum() * mels.shape[1]
    mel = mels.new_zeros(())
    for predicted in (output.mel, output.mel_postnet):
        error = (predicted - mels) / model.mel_deviation * inside
        mel = mel + (error.square().sum() + config.absolute * error.abs().sum()) / count
    gate = _gate_loss(output, model.config.n_frames_per_step, config)
    attended = mels.new_zeros(())
    if attention is not None and config.attention:
        attended = -(attention * output.alignment.float().clamp(min=1e-6).log()).sum() / attention.sum()
    return Losses(mel + gate + config.attention * attended, mel, gate, attended)


def _gate_loss(output: TacotronOutput, n_frames_per_step: int, config: LossConfig) -> torch.Tensor:
    """The gate is 1 at a sentence's last step and after it, as in NVIDIA's batches; here only up to that step."""
    steps = output.gate.shape[1]
    last = (output.mel_lengths + n_frames_per_step - 1) // n_frames_per_step  # (batch,), counted from 1
    inside = mask_from_lengths(last, steps)
    ends = torch.arange(1, steps + 1, device=last.device) == last.unsqueeze(1)
    loss = F.binary_cross_entropy_with_logits(
        output.gate.float(),
        ends.float(),
        pos_weight=output.gate.new_tensor(config.gate_positive, dtype=torch.float32),
        reduction="none",
    )
    return (loss * inside).sum() / inside.sum()
