"""What speaks lies between the base and what was learned, and strays as far as the clips do, half-way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from many import unequal
from tiny import TINY

from voiceclone.dataset import collate
from voiceclone.settle import VARIANCE_SHARE, match_variance, settle, share_learned
from voiceclone.tacotron2 import Tacotron2


def a_model(seed: int) -> Tacotron2:
    torch.manual_seed(seed)
    model = Tacotron2(TINY).eval()
    model.decoder.prenet.dropout = 0.0
    return model


@pytest.fixture(scope="module")
def examples():
    return unequal()


def weights(model: Tacotron2) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items() if name != "envelope.gain"}


def test_more_clips_are_trusted_more_until_there_are_enough():
    shares = [share_learned(clips) for clips in (1, 2, 4, 25, 1000)]
    np.testing.assert_allclose(shares[:3], [1 / 5, 1 / 3, 1 / 2])  # beside the base: a quarter, a half, one
    assert 0.5 < shares[3] == shares[4] < 0.6


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_weight_lies_between_base_and_learned(examples, share):
    base, learned = a_model(1), a_model(2)
    of_base, of_learned = weights(base), weights(learned)
    mixed = weights(settle(learned, base.state_dict(), share, examples))
    for name, found in mixed.items():
        expected = (1 - share) * of_base[name].double() + share * of_learned[name].double()
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)
    for model, before in ((base, of_base), (learned, of_learned)):  # and neither is touched
        assert all(torch.equal(t, before[name]) for name, t in weights(model).items())


def test_a_model_without_base_keeps_its_weights(examples):
    learned = a_model(2)
    settled = weights(settle(learned, None, 0.3, examples))
    assert all(torch.equal(t, settled[name]) for name, t in weights(learned).items())


def test_gains_are_the_root_of_what_is_missing(examples):
    """Against the same ratio by numpy, clip by clip."""
    model = a_model(3)
    match_variance(model, examples)
    found = model.envelope.gain[:, 0].numpy().copy()
    basis = model.envelope.basis.numpy()
    said, true = [], []
    for example in examples:
        batch = collate([example], TINY.n_frames_per_step)
        frames = example.mel.shape[1]
        with torch.no_grad():
            out = model(batch.text, batch.text_lengths, batch.mels, batch.mel_lengths, batch.speaker, batch.pitch)
        said.append(basis @ out.mel[0, :, :frames].numpy())
        true.append(basis @ example.mel.numpy())
    ratio = np.concatenate(true, 1).std(1, ddof=1) / np.concatenate(said, 1).std(1, ddof=1)
    assert found[0] == 1
    np.testing.assert_allclose(found[1:], np.clip(ratio, 1, 3)[1:] ** VARIANCE_SHARE, rtol=1e-3)
    assert (found[1:] > 1).any()


def test_an_enlivened_sentence_strays_more_about_the_same_mean():
    model = a_model(4)
    model.envelope.gain.fill_(2.0)
    frames = torch.randn(2, TINY.envelope_order, 30)
    inside = (torch.arange(30) < torch.tensor([[[30]], [[21]]])).expand(2, 1, 30)
    spoken = model.envelope.enliven(frames, inside)
    for one, was, length in zip(spoken, frames, (30, 21), strict=True):
        torch.testing.assert_close(one[:, :length].std(1), 2 * was[:, :length].std(1))
        torch.testing.assert_close(one[:, :length].mean(1), was[:, :length].mean(1), atol=1e-5, rtol=0)
        assert not one[:, length:].any()
