"""HiFi-GAN with fewer multiplications says what the plain generator says."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from voiceclone.vocoders import hifigan, hifigan_tiled
from voiceclone.vocoders.hifigan import Generator, GeneratorSizes
from voiceclone.vocoders.hifigan_tiled import MARGIN, TiledConvolution, TiledGenerator, transform


@pytest.mark.parametrize("kernel_size", [3, 7, 11])
def test_a_product_of_frequencies_is_a_convolution(kernel_size):
    tile = 2 * kernel_size + 8
    analysis, kernel, synthesis = transform(tile, kernel_size)
    torch.manual_seed(0)
    x, w = torch.randn(tile, dtype=torch.float64), torch.randn(kernel_size, dtype=torch.float64)
    expected = F.conv1d(x[None, None], w[None, None])[0, 0]
    made = synthesis.double() @ ((analysis.double() @ x) * (kernel @ w))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
    assert len(analysis) < tile * 1.5  # three products for two of the tile's numbers


@pytest.mark.parametrize("length", [1, 17, 500])
@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (7, 3), (11, 5)])
@torch.no_grad()
def test_a_tiled_convolution_is_a_convolution_within_silence(kernel_size, dilation, length, monkeypatch):
    monkeypatch.setattr(hifigan_tiled, "CACHED", 1000)  # several pieces
    torch.manual_seed(0)
    layer = hifigan._conv(6, 6, kernel_size, dilation)
    x, out = torch.zeros(2, length + 2 * MARGIN, 6)
    x[MARGIN:-MARGIN], out[MARGIN:-MARGIN] = torch.randn(2, length, 6)
    expected = layer(F.leaky_relu(x[MARGIN:-MARGIN], hifigan.SLOPE).t()[None, :, None])[0, :, 0].t()
    given, before = x.clone(), out.clone()
    tiled = TiledConvolution(layer)
    tiled(x, out, add=True)
    torch.testing.assert_close(out[MARGIN:-MARGIN], expected + before[MARGIN:-MARGIN], atol=1e-5, rtol=0)
    tiled(x, out)
    torch.testing.assert_close(out[MARGIN:-MARGIN], expected, atol=1e-5, rtol=0)
    assert torch.equal(x, given)
    assert out[:MARGIN].abs().max() == out[-MARGIN:].abs().max() == 0  # for the next one


@pytest.mark.parametrize("frames", [1, 30])
@torch.no_grad()
def test_the_tiled_generator_says_what_the_generator_says(frames):
    torch.manual_seed(0)
    generator = Generator(GeneratorSizes(20, 32, (16, 16, 4, 4), (3, 7, 11)))
    mel = torch.randn(2, 20, frames)
    expected = generator(mel)
    assert expected.std() > 0.01
    torch.testing.assert_close(TiledGenerator(generator)(mel), expected, atol=1e-5, rtol=0)
