"""What a GPU asks of the code, as far as it shows without one: precisions, states, and that nothing is waited for."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import count

import pytest
import torch
from many import PLAIN, STEADY, unequal
from tiny import TINY
from torch.utils._python_dispatch import TorchDispatchMode

from voiceclone.dataset import collate
from voiceclone.device import choose_device, fast_precision, seeded, without_denormals
from voiceclone.errors import UnavailableError
from voiceclone.learn import Learner, learn_config
from voiceclone.tacotron2 import AttentionWindow, LossConfig, Tacotron2, TacotronOutput, tacotron_loss

PLAIN_FULL = replace(
    TINY,
    n_frames_per_step=1,
    speaker_dim=0,
    normalise_mels=False,
    envelope_order=0,
    postnet_dropout=0.5,
    postnet_final_dropout=True,
)
KINDS = pytest.mark.parametrize("config", [PLAIN_FULL, TINY], ids=["full", "small"])


# Which, and in which precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generation", "precision"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 1), "no")]
)
def test_a_gpu_computes_in_what_its_generation_is_fast_at(monkeypatch, generation, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert fast_precision("cuda") == precision  # 7.5 is Colab's T4
    assert learn_config("full", 25, based=True, device="cuda").mixed_precision == precision


def test_accelerates_wish_for_the_processor_is_heard(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert choose_device() == "cpu"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "mps"])
def test_a_device_that_is_not_known_is_refused(device):
    with pytest.raises(UnavailableError, match=f"{device}' is not known.*'cuda:1'"):
        choose_device(device)


def test_one_of_several_gpus_can_be_chosen_if_it_is_there(monkeypatch):
    with pytest.raises(UnavailableError, match="no GPU here"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(UnavailableError, match="no cuda:2 here.*cuda:0 to cuda:1"):
        choose_device("cuda:2")


def test_what_a_seeded_block_draws_leaves_no_trace():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    drawn = []
    for _ in range(2):
        with seeded(7, "cpu"):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.rand(3), expected)


def test_denormals_are_nought_within_and_numbers_again_afterwards():
    small = torch.tensor(1e-38)
    for _ in range(2):
        with without_denormals():
            assert small * 0.1 == 0
            with without_denormals():
                pass
            assert small * 0.1 == 0
        assert small * 0.1 != 0


# Nothing is waited for --------------------------------------------------------------------------------------------


@KINDS
def test_a_training_step_asks_for_no_tensors_value(config):
    """On the device "meta" tensors have no values, and cannot be mixed with tensors that are elsewhere.

    The encoder is left out: torch's own packing of texts of unequal length asks for their lengths.
    """
    model = Tacotron2(config).to("meta").train()
    batch = collate(unequal(4), config.n_frames_per_step).to("meta")
    width = config.symbols_embedding_dim
    encoded = torch.zeros(*batch.text.shape, width, device="meta", requires_grad=True)
    outside = torch.zeros_like(batch.text, dtype=torch.bool)
    known = batch.mels if model.envelope is None else model.envelope.analyse(batch.mels)
    said, pitch, gate, alignment = model.decoder(encoded, outside, known)
    mel, corrected = model._draw(said, pitch, batch.pitch)
    output = TacotronOutput(mel, corrected, gate, alignment, batch.mel_lengths, batch.mel_lengths > 0, pitch)
    settings = LossConfig(absolute=1.0, contrast=1.0, attention=0.5, gate_positive=5.0)
    tacotron_loss(model, output, batch.mels, batch.attention, settings, batch.pitch).total.backward()
    parts = (*model.decoder.parameters(), *model.postnet.parameters())
    assert encoded.grad.is_meta and all(parameter.grad.is_meta for parameter in parts)


class Looks(TorchDispatchMode):
    """Counts how often a tensor's value is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


@KINDS
def test_speaking_that_looks_seldom_whether_it_is_over_says_the_same(config):
    torch.manual_seed(0)
    model = Tacotron2(config).eval()
    encoded, lengths = torch.randn(2, 9, config.symbols_embedding_dim), torch.tensor([9, 5])
    last = torch.tensor([37.0, 21.0]).view(2, 1, 1)  # step of each text at which its gate fires

    def speak(look_every):
        steps = count(1)

        def fire(layer, inputs, gate):  # (batch, steps since the last look, 1)
            return torch.tensor([next(steps) for _ in range(gate.shape[1])]).view(1, -1, 1) - last + 0.5

        hook = model.decoder.gate_layer.register_forward_hook(fire)
        with seeded(3, "cpu"), torch.no_grad(), Looks() as looks:
            said = model._steps(encoded, lengths, 100, 0.5, AttentionWindow(), None, look_every)
        hook.remove()
        return *said, looks.count

    outputs, over, stopped, looks = speak(1)
    others, also_over, also_stopped, seldom = speak(16)
    assert len(outputs) == len(others) == 37
    assert over.tolist() == also_over.tolist() == [37, 21]
    assert stopped.all() and also_stopped.all()
    for one, other in zip(outputs, others, strict=True):
        assert torch.equal(one.frames, other.frames) and torch.equal(one.weights, other.weights)
    assert (looks, seldom) == (38 + 1, 4 + 1)  # before steps 1, 17, 33 and 49; and how many steps there are


# From device to device --------------------------------------------------------------------------------------------


def test_what_a_gpu_has_learned_goes_on_without_one():
    clips = unequal()
    first = Learner(Tacotron2(PLAIN), STEADY, device="cpu")
    first.learn(next(first.batches(clips, seed=1)), 0.0)
    state, averaged = deepcopy((first.state(), first.averaged))
    expected = first.learn(next(first.batches(clips, seed=1)), 0.1)
    state["random_gpu"] = torch.zeros(16, dtype=torch.uint8)
    for group in state["optimiser"]["param_groups"]:
        group["fused"] = True  # as Adam's is on a GPU
    second = Learner(Tacotron2(PLAIN), STEADY, device="cpu")
    second.load_state(state, averaged)
    assert not any(group["fused"] for group in second.optimiser.param_groups)
    assert second.learn(next(second.batches(clips, seed=1)), 0.1) == expected


@pytest.mark.parametrize("change", [lambda model: model.train(), lambda model: model.double()], ids=["train", "move"])
def test_packed_weights_are_dropped_before_they_are_wrong(change):
    model = Tacotron2(TINY).eval()
    if not model.decoder.pack():
        pytest.skip("torch has no FBGEMM here")
    model.eval()
    assert model.decoder.packed
    change(model)
    assert model.decoder.packed is None
