"""From what was learned to what speaks: an adapted model, drawn back towards its base and as lively as its clips.

A model that has met 25 clips says them well and other texts worse than before. Half-way between its weights and those
that it began with it keeps most of the voice and is understood better than either end (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"). And what a network predicts strays less than what people say, which `match_variance`
makes up for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from .dataset import Example, collate
from .device import seeded
from .tacotron2 import Tacotron2
from .tacotron2.layers import mask_from_lengths

HALF_WAY = 4  # clips whose learning is taken over by half
FURTHEST = 0.52  # share of what any number of clips taught
VARIANCE_SHARE = 0.5  # of the missing variance, as a power; all of it would restore what is noise, too
MOST_GAIN = 3.0
COMPARED = 24  # clips that are enough to know a voice's variance
TOGETHER = 8  # clips a batch


def share_learned(clips: int) -> float:
    """How far to go from the base to what so many clips taught, 0 to 1.

    From a few clips on half-way: further on the voice sounds a little more like itself, and is understood worse, with a
    hundred clips as with twenty-five.
    """
    return min(clips / (clips + HALF_WAY), FURTHEST)


def settle(
    learned: Tacotron2, base: Mapping[str, torch.Tensor] | None, share: float, examples: Sequence[Example]
) -> Tacotron2:
    """The model that speaks; `learned` and `base` are left as they are.

    Parameters
    ----------
    learned : Tacotron2
        After some training.
    base : mapping of str to torch.Tensor, or None
        The weights that it began with; None if it began with nothing that could speak with this voice.
    share : float
        How far to go from the base to what was learned, 0 to 1.
    examples : sequence of Example
        Clips of the voice, as lively as it is.
    """
    model = learned.copy()
    if base is not None:
        mixed = {
            name: torch.lerp(base[name].to(t), t, share) if t.is_floating_point() else t
            for name, t in learned.state_dict().items()
        }
        model.load_state_dict(mixed)
    if model.envelope is not None:
        match_variance(model, examples)
    return model


@torch.inference_mode()
def match_variance(model: Tacotron2, examples: Sequence[Example]) -> None:
    """Set the gains of the model's envelope by how far its predictions stray beside the clips themselves.

    Parameters
    ----------
    model : Tacotron2
        One that says envelope and pitch apart.
    examples : sequence of Example
        Predicted by the model, teacher-forced; the first 24 are compared.
    """
    device = model.mel_mean.device
    true, said = [], []
    with seeded(0, str(device)):  # the prenet's dropout must not change what comes after
        for at in range(0, min(len(examples), COMPARED), TOGETHER):
            batch = collate(examples[at : min(at + TOGETHER, COMPARED)], model.config.n_frames_per_step).to(device)
            output = model(batch.text, batch.text_lengths, batch.mels, batch.mel_lengths, batch.speaker, batch.pitch)
            inside = mask_from_lengths(batch.mel_lengths, batch.mels.shape[2])  # (batch, frames)
            for mels, kept in ((batch.mels, true), (output.mel, said)):
                coefficients = model.envelope.analyse((mels - model.mel_mean) / model.mel_deviation)
                kept.append(coefficients.transpose(1, 2)[inside])  # (batch, order, frames) -> (frames, order)
    ratio = torch.cat(true).std(0) / torch.cat(said).std(0).clamp(min=1e-4)
    gain = ratio.nan_to_num(1.0).clamp(1.0, MOST_GAIN) ** VARIANCE_SHARE  # clips that are no numbers say nothing
    gain[0] = 1.0  # the loudness, which is right as it is
    model.envelope.gain.copy_(gain.unsqueeze(1))
