"""HiFi-GAN's discriminators (Kong et al. 2020, section 2.3) and what they teach (section 2.4).

Each one judges a wave again and again along time: 1 for what it takes for natural, 0 for what it takes for made. Those
of the multi-period discriminator see every p-th sample, for p of 2, 3, 5, 7 and 11; those of the multi-scale
discriminator see the wave as it is, halved and quartered. Their layers have the authors' names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from ..errors import VoiceCloneError

SLOPE = 0.1  # of every leaky ReLU
PERIODS = (2, 3, 5, 7, 11)  # samples; prime, so that no two see the same
SCALES = 3  # the wave as it is, halved, quartered
PERIOD_LAYERS = ((32, 3), (128, 3), (512, 3), (1024, 3), (1024, 1))  # channels, stride; each sees 5 of its samples
SCALE_LAYERS = (  # channels, samples seen, stride, groups
    (128, 15, 1, 1),
    (128, 41, 2, 4),
    (256, 41, 2, 16),
    (512, 41, 4, 16),
    (1024, 41, 4, 16),
    (1024, 41, 1, 16),
    (1024, 5, 1, 1),
)
NARROWEST = 8  # share of the paper's channels, one in so many, at which the groups of 16 still divide them


@dataclass(frozen=True)
class Judgement:
    """What one discriminator finds in a batch of waves."""

    score: torch.Tensor  # (batch, places): near 1 where it sounds natural
    features: tuple[torch.Tensor, ...]  # what each of its layers gave, the score last; (batch, channels, ...)

    def halves(self) -> tuple[Judgement, Judgement]:
        """Of the first and of the second half of the batch."""
        scores, features = self.score.chunk(2), [feature.chunk(2) for feature in self.features]
        first, second = (Judgement(scores[k], tuple(feature[k] for feature in features)) for k in (0, 1))
        return first, second


class PeriodDiscriminator(nn.Module):
    """Looks at every `period`-th sample: the wave as an image `period` wide, seen one column at a time."""

    def __init__(self, period: int, narrower: int = 1) -> None:
        super().__init__()
        self.period = period
        self.convs, inputs = nn.ModuleList(), 1
        for channels, stride in PERIOD_LAYERS:
            outputs = channels // narrower
            self.convs.append(weight_norm(nn.Conv2d(inputs, outputs, (5, 1), (stride, 1), (2, 0))))
            inputs = outputs
        self.conv_post = weight_norm(nn.Conv2d(inputs, 1, (3, 1), 1, (1, 0)))

    def forward(self, wave: torch.Tensor) -> Judgement:
        """(batch, samples) -> score (batch, places)."""
        wave = F.pad(wave.unsqueeze(1), (0, -wave.shape[1] % self.period), mode="reflect")
        image = wave.unflatten(2, (-1, self.period))  # (batch, 1, samples) -> (batch, 1, rows, period)
        return _judge(image, self.convs, self.conv_post)


class ScaleDiscriminator(nn.Module):
    """Looks at neighbouring samples, ever more of them from layer to layer."""

    def __init__(self, narrower: int = 1, norm: Callable[[nn.Module], nn.Module] = weight_norm) -> None:
        super().__init__()
        self.convs, inputs = nn.ModuleList(), 1
        for channels, kernel, stride, groups in SCALE_LAYERS:
            outputs = channels // narrower
            self.convs.append(norm(nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)))
            inputs = outputs
        self.conv_post = norm(nn.Conv1d(inputs, 1, 3, padding=1))

    def forward(self, wave: torch.Tensor) -> Judgement:
        """(batch, samples) -> score (batch, places)."""
        return _judge(wave.unsqueeze(1), self.convs, self.conv_post)


def _judge(x: torch.Tensor, layers: nn.ModuleList, last: nn.Module) -> Judgement:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    x = last(x)
    return Judgement(x.flatten(1), (*features, x))


class Discriminators(nn.Module):
    """All eight: five periods, three scales.

    Parameters
    ----------
    narrower : int
        Divides the paper's channels: 1 is the paper's 71 M weights; 4 has a sixteenth of them and of the work, for
        learning without a GPU. 1, 2, 4 or 8.
    """

    def __init__(self, narrower: int = 1) -> None:
        super().__init__()
        if narrower < 1 or NARROWEST % narrower:
            raise VoiceCloneError(f"narrower={narrower} does not divide the discriminators' channels: use 1, 2, 4, 8.")
        self.narrower = narrower
        self.mpd, self.msd = nn.Module(), nn.Module()  # the authors' names of the two families
        self.mpd.discriminators = nn.ModuleList(PeriodDiscriminator(period, narrower) for period in PERIODS)
        # The first sees the raw wave and would otherwise win too early (Kumar et al. 2019, whose discriminator it is).
        norms = (spectral_norm, *(weight_norm,) * (SCALES - 1))
        self.msd.discriminators = nn.ModuleList(ScaleDiscriminator(narrower, norm) for norm in norms)

    def forward(self, waves: torch.Tensor) -> tuple[Judgement, ...]:
        """(batch, samples) -> one judgement by each discriminator."""
        judgements = [discriminator(waves) for discriminator in self.mpd.discriminators]
        for discriminator in self.msd.discriminators:
            judgements.append(discriminator(waves))
            waves = F.avg_pool1d(waves.unsqueeze(1), 4, 2, padding=2).squeeze(1)
        return tuple(judgements)

    def compare(
        self, natural: torch.Tensor, made: torch.Tensor
    ) -> tuple[tuple[Judgement, ...], tuple[Judgement, ...]]:
        """Judge natural and made waves, both (batch, samples), side by side."""
        pairs = [judgement.halves() for judgement in self(torch.cat((natural, made)))]
        first, second = zip(*pairs, strict=True)
        return first, second


# Losses -----------------------------------------------------------------------------------------------------------


def discriminator_loss(natural: Sequence[Judgement], made: Sequence[Judgement]) -> torch.Tensor:
    """Equation 1 of the paper, summed over discriminators: natural sound shall be 1, made sound 0."""
    pairs = zip(natural, made, strict=True)
    return sum((1 - real.score).square().mean() + fake.score.square().mean() for real, fake in pairs)


def adversarial_loss(made: Sequence[Judgement]) -> torch.Tensor:
    """Equation 2, summed over discriminators: made sound shall be taken for 1."""
    return sum((1 - fake.score).square().mean() for fake in made)


def feature_loss(natural: Sequence[Judgement], made: Sequence[Judgement]) -> torch.Tensor:
    """Equation 4, summed over discriminators: every layer shall see the same in made sound as in natural."""
    pairs = [
        pair for a, b in zip(natural, made, strict=True) for pair in zip(a.features, b.features, strict=True)
    ]
    return sum(F.l1_loss(fake, real) for real, fake in pairs)
