"""HiFi-GAN's discriminators and losses, by the paper's formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate

from voiceclone.errors import VoiceCloneError
from voiceclone.vocoders.hifigan_discriminators import (
    Discriminators,
    Judgement,
    PeriodDiscriminator,
    ScaleDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)


def plain(layer: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Kernels (outputs, inputs, samples) and biases of a layer, weight norm multiplied out by hand."""
    own = layer.parametrizations.weight
    lengths, directions = own.original0.detach().numpy(), own.original1.detach().numpy()
    axes = tuple(range(1, directions.ndim))
    kernels = directions * lengths / np.sqrt((directions**2).sum(axes, keepdims=True))
    return kernels.reshape(*kernels.shape[:2], -1), layer.bias.detach().numpy()


def by_hand(x: np.ndarray, layer: torch.nn.Module, groups: int = 1, slope: float = 0.1) -> np.ndarray:
    """(channels, samples) through one layer and its leaky ReLU, as sums of correlations."""
    kernels, bias = plain(layer)
    stride, size = layer.stride[0], kernels.shape[2]
    padded, each = np.pad(x, ((0, 0), (size // 2, size // 2))), len(kernels) // groups
    rows = []
    for out, kernel in enumerate(kernels):
        inputs = padded[out // each * len(kernel) :][: len(kernel)]
        total = sum(correlate(a, b, "valid") for a, b in zip(inputs, kernel, strict=True)) + bias[out]
        rows.append(total[::stride])
    found = np.stack(rows)
    return np.where(found > 0, found, slope * found)


def assert_equal(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("period", [2, 3, 11])
def test_a_period_discriminator_sees_every_pth_sample(period):
    torch.manual_seed(0)
    judge = PeriodDiscriminator(period, narrower=8)
    wave = torch.randn(1, 400)
    judgement = judge(wave)
    padded = np.pad(wave[0].numpy(), (0, -400 % period), mode="reflect")
    for column in range(period):
        x = padded[None, column::period]
        for layer, feature in zip(judge.convs, judgement.features, strict=False):
            x = by_hand(x, layer)
            assert_equal(feature[0, :, :, column], x)
        score = by_hand(x, judge.conv_post, slope=1.0)
        assert_equal(judgement.score[0].view(-1, period)[:, column], score[0])


def test_a_scale_discriminator_is_seven_grouped_convolutions():
    torch.manual_seed(0)
    judge = ScaleDiscriminator(narrower=8)
    wave = torch.randn(1, 300)
    judgement, x = judge(wave), wave.numpy()
    for layer, groups, feature in zip(judge.convs, (1, 4, 16, 16, 16, 16, 1), judgement.features, strict=False):
        x = by_hand(x, layer, groups)
        assert_equal(feature[0], x)
    assert_equal(judgement.score, by_hand(x, judge.conv_post, slope=1.0))


def test_the_scales_are_the_wave_halved_by_means_of_four():
    torch.manual_seed(0)
    judges, wave = Discriminators(8).eval(), torch.randn(1, 800)
    halved = np.convolve(np.pad(wave[0].numpy(), 2), np.full(4, 0.25), "valid")[::2]
    quartered = np.convolve(np.pad(halved, 2), np.full(4, 0.25), "valid")[::2]
    for place, seen in ((5, wave[0].numpy()), (6, halved), (7, quartered)):
        alone = judges.msd.discriminators[place - 5](torch.from_numpy(seen[None].astype(np.float32)))
        assert_equal(judges(wave)[place].score, alone.score.detach().numpy())


def test_the_papers_discriminators_have_the_authors_names_and_sizes():
    with torch.device("meta"):
        judges = Discriminators()
    assert sum(p.numel() for p in judges.parameters()) == 70_724_591  # of the authors' code
    assert [d.period for d in judges.mpd.discriminators] == [2, 3, 5, 7, 11] and len(judges.msd.discriminators) == 3
    shapes = {name: tuple(p.shape) for name, p in judges.named_parameters()}
    assert shapes["mpd.discriminators.4.convs.3.parametrizations.weight.original1"] == (1024, 512, 5, 1)
    assert shapes["msd.discriminators.2.convs.4.parametrizations.weight.original1"] == (1024, 32, 41)
    assert shapes["msd.discriminators.0.conv_post.parametrizations.weight.original"] == (1, 1024, 3)  # spectral norm


def test_judging_side_by_side_changes_nothing():
    torch.manual_seed(0)
    judges, natural, made = Discriminators(8).eval(), torch.randn(2, 600), torch.randn(2, 600)
    for both, alone in zip(judges.compare(natural, made), (judges(natural), judges(made)), strict=True):
        for a, b in zip(both, alone, strict=True):
            torch.testing.assert_close(a.score, b.score)
            for x, y in zip(a.features, b.features, strict=True):
                torch.testing.assert_close(x, y)


@pytest.mark.parametrize("narrower", [0, 3, 16])
def test_channels_that_cannot_be_divided_so_are_refused(narrower):
    with pytest.raises(VoiceCloneError, match="use 1, 2, 4, 8"):
        Discriminators(narrower)


def test_the_losses_are_the_papers():
    """On numbers whose means can be taken in the head."""
    natural = [Judgement(torch.tensor([[1.0, 0.0]]), (torch.tensor([[2.0, 4.0]]), torch.tensor([[1.0, 0.0]])))]
    made = [Judgement(torch.tensor([[0.0, 3.0]]), (torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 3.0]])))]
    assert float(discriminator_loss(natural, made)) == pytest.approx((0 + 1) / 2 + (0 + 9) / 2)
    assert float(adversarial_loss(made)) == pytest.approx((1 + 4) / 2)
    assert float(feature_loss(natural, made)) == pytest.approx((1 + 3) / 2 + (1 + 3) / 2)
    assert float(adversarial_loss(made * 2)) == pytest.approx(5.0)  # a sum over discriminators
