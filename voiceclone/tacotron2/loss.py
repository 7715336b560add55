"""What training minimises: the paper's losses, and the attention held to where the sounds are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from .harmonics import to_model
from .layers import mask_from_lengths
from .model import Tacotron2, TacotronOutput

PATCH = 10  # bands, and frames, of the patches whose contrast is compared
LEAST = 1e-6  # what no patches and no voiced frames are divided by


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses. The paper's are 1 for squared error and gate, and nothing else."""

    absolute: float = 0.0  # of absolute beside squared error; it keeps weak detail that squares ignore
    contrast: float = 0.0  # of local contrast; errors alone are least for a blurred picture, which mumbles
    attention: float = 0.0  # of the attention's cross-entropy with the phones' times
    pitch: float = 1.0  # of pitch and voicing, where the model says them
    gate_positive: float = 1.0  # of the few steps that end a sentence against the many that do not


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, each a scalar tensor."""

    total: torch.Tensor
    mel: torch.Tensor  # before and after the postnet, in the model's own (normalised) units
    gate: torch.Tensor
    attention: torch.Tensor
    pitch: torch.Tensor  # squared error in the model's units on voiced frames, and cross-entropy of voicing


class Counts(NamedTuple):
    """Over how much the losses are means, each a scalar tensor."""

    frames: torch.Tensor  # of the clips, without padding
    patches: torch.Tensor  # of frames that lie in a clip
    steps: torch.Tensor  # of the decoder, up to each clip's last
    attended: torch.Tensor  # steps whose attention is known
    voiced: torch.Tensor  # frames with a pitch


def loss_counts(
    mel_lengths: torch.Tensor,
    frames: int,
    n_frames_per_step: int,
    attention: torch.Tensor | None,
    pitch: torch.Tensor | None,
) -> Counts:
    """Count what is in a batch, shapes as for `tacotron_loss`; `frames` are those of the padded batch."""
    inside = mask_from_lengths(mel_lengths, frames)
    nothing = mel_lengths.new_zeros(())
    counted = (
        inside,
        _whole_patches(inside),
        _last_steps(mel_lengths, n_frames_per_step),
        nothing if attention is None else attention,
        nothing if pitch is None else inside & (pitch > 0),
    )
    return Counts(*(each.sum().float() for each in counted))


def tacotron_loss(
    model: Tacotron2,
    output: TacotronOutput,
    mels: torch.Tensor,
    attention: torch.Tensor | None,
    config: LossConfig,
    pitch: torch.Tensor | None = None,
    counts: Counts | None = None,
) -> Losses:
    """Error of both mels and the pitch, cross-entropy of gate and attention; padding counts for nothing.

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
    pitch : torch.Tensor or None, shape (batch, frames)
        The truth in Hz, 0 where unvoiced.
    counts : Counts or None
        Of the batch that this is a part of, if it is one: the losses of all its parts add up to those of the whole.
    """
    if counts is None:
        counts = loss_counts(output.mel_lengths, mels.shape[2], model.config.n_frames_per_step, attention, pitch)
    inside = mask_from_lengths(output.mel_lengths, mels.shape[2]).unsqueeze(1)
    mel = mels.new_zeros(())
    for predicted, truth in ((output.mel, model.smooth(mels)), (output.mel_postnet, mels)):
        error = (predicted - truth) / model.mel_deviation * inside
        mel = mel + (error.square().sum() + config.absolute * error.abs().sum()) / (counts.frames * mels.shape[1])
        if config.contrast and mels.shape[2] >= PATCH:
            difference = _contrast(predicted / model.mel_deviation, truth / model.mel_deviation, inside[:, 0])
            mel = mel + config.contrast * difference / counts.patches.clamp(min=LEAST)
    gate = _gate_loss(output, model.config.n_frames_per_step, config) / counts.steps
    attended = mels.new_zeros(())
    if attention is not None and config.attention:
        attended = -(attention * output.alignment.float().clamp(min=1e-6).log()).sum() / counts.attended
    pitched = mels.new_zeros(())
    if output.pitch is not None and pitch is not None:
        pitched = _pitch_loss(output.pitch.float(), pitch, inside[:, 0], counts)
    return Losses(mel + gate + config.attention * attended + config.pitch * pitched, mel, gate, attended, pitched)


def _contrast(predicted: torch.Tensor, truth: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Difference of deviations within patches of the spectrogram, summed over the patches of frames.

    What is called contrast in Wang et al. 2004, "Image quality assessment: from error visibility to structural
    similarity".
    """
    difference = (_deviations(predicted) - _deviations(truth)).abs().mean((1, 2))  # (batch, patches)
    return (difference * _whole_patches(inside)).sum()


def _whole_patches(inside: torch.Tensor) -> torch.Tensor:
    """(batch, frames) -> (batch, patches), False where a patch holds padding; there are none of fewer frames."""
    if inside.shape[1] < PATCH:
        return inside[:, :0]
    return F.avg_pool1d(inside.float().unsqueeze(1), PATCH, PATCH // 2).squeeze(1) > 0.99


def _deviations(mels: torch.Tensor) -> torch.Tensor:
    """(batch, n_mels, frames) -> (batch, 1, patches of bands, patches of frames)."""
    images = mels.float().unsqueeze(1)
    variance = F.avg_pool2d(images.square(), PATCH, PATCH // 2) - F.avg_pool2d(images, PATCH, PATCH // 2).square()
    return (variance.clamp(min=0) + 1e-3).sqrt()


def _pitch_loss(said: torch.Tensor, pitch: torch.Tensor, inside: torch.Tensor, counts: Counts) -> torch.Tensor:
    """Squared error where the voice has a pitch, and the cross-entropy of whether it has one."""
    voiced = (pitch > 0) & inside
    error = ((said[:, 0] - to_model(pitch)).square() * voiced).sum() / counts.voiced.clamp(min=LEAST)
    voicing = F.binary_cross_entropy_with_logits(said[:, 1], voiced.float(), reduction="none")
    return error + (voicing * inside).sum() / counts.frames


def _last_steps(mel_lengths: torch.Tensor, n_frames_per_step: int) -> torch.Tensor:
    """The decoder step that is each clip's last, (batch,), counted from 1."""
    return (mel_lengths + n_frames_per_step - 1) // n_frames_per_step


def _gate_loss(output: TacotronOutput, n_frames_per_step: int, config: LossConfig) -> torch.Tensor:
    """Summed over the steps. NVIDIA's gates are 1 at a sentence's last step and after it; here only up to that step."""
    steps = output.gate.shape[1]
    last = _last_steps(output.mel_lengths, n_frames_per_step)
    inside = mask_from_lengths(last, steps)
    ends = torch.arange(1, steps + 1, device=last.device) == last.unsqueeze(1)
    loss = F.binary_cross_entropy_with_logits(
        output.gate.float(),
        ends.float(),
        pos_weight=torch.full((), config.gate_positive, device=last.device),
        reduction="none",
    )
    return (loss * inside).sum()
