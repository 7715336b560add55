"""WaveGlow: equal to NVIDIA's code both ways, undone exactly, read from every kind of checkpoint without its code."""

from __future__ import annotations

import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY as TINY_TACOTRON

from voiceclone.audio import AudioConfig
from voiceclone.errors import AudioError, CheckpointError, VoiceCloneError
from voiceclone.files import package_file
from voiceclone.synthesize import Attempt, Synthesizer
from voiceclone.tacotron2 import Tacotron2
from voiceclone.vocoders import load_vocoder, vocode
from voiceclone.vocoders.hifigan import UNIVERSAL
from voiceclone.vocoders.waveglow import WaveGlow, load_waveglow
from voiceclone.vocoders.waveglow_network import WaveGlowNetwork, WaveGlowSizes
from voiceclone.vocoders.waveglow_training import waveglow_loss
from voiceclone.weights import fold_weight_norm, read_state_dict

REFERENCE = Path(__file__).parent / "references" / "waveglow.npz"
pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")  # of a class that is made here
TINY = WaveGlowSizes(n_mels=8, n_flows=4, n_early_every=2, n_layers=2, n_channels=16)


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    with np.load(REFERENCE) as file:
        return {name: torch.from_numpy(file[name]) for name in file}


@pytest.fixture
def weights(reference) -> dict[str, torch.Tensor]:
    """Those of a tiny network, under NVIDIA's names and with weight norm."""
    return {k.removeprefix("weights/"): v for k, v in reference.items() if k.startswith("weights/")}


def saved(content: object, folder: Path) -> Path:
    path = folder / "waveglow.pt"
    torch.save(content, path)
    return path


@pytest.fixture
def vocoder(weights, tmp_path) -> WaveGlow:
    return load_vocoder("waveglow", saved({"state_dict": weights}, tmp_path))


def network(sizes: WaveGlowSizes = TINY, **options) -> WaveGlowNetwork:
    """A network whose couplings already do something."""
    torch.manual_seed(1)
    made = WaveGlowNetwork(sizes, **options)
    for coupling in made.WN:
        torch.nn.init.normal_(coupling.end.weight, std=0.1)
    return made


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0, check_dtype=False)


# Equal to NVIDIA's ------------------------------------------------------------------------------------------------


def test_without_noise_the_wave_equals_nvidias(reference, vocoder):
    assert_equal(vocoder(reference["mel"], sigma=0.0), reference["silent_noise/wave"])


def test_with_the_same_noise_the_wave_equals_nvidias(reference, vocoder):
    wave = vocoder(reference["mel"], sigma=0.6, noise=reference["noise"])
    assert wave.shape == (2, 6 * 256)
    assert_equal(wave, reference["wave"])


def test_the_same_seed_draws_the_noise_that_nvidias_code_draws(reference, vocoder):
    torch.manual_seed(5)
    assert_equal(vocoder(reference["mel"], 0.6), reference["wave"])


def test_the_denoised_wave_equals_nvidias(reference, vocoder):
    wave = vocoder(reference["mel"], noise=reference["noise"], denoise=0.1)
    assert_equal(wave, reference["denoised"])
    assert_equal(vocoder.denoise(reference["wave"]), reference["denoised"])
    torch.testing.assert_close(vocoder._bias[0, :, 0], reference["denoiser_bias"], atol=1e-3, rtol=1e-4)


def test_the_forward_direction_and_the_loss_equal_nvidias(reference, vocoder):
    with torch.no_grad():
        encoded = vocoder.network.encode(reference["mel"], reference["forward/wave"])
    assert_equal(encoded.z, reference["forward/z"])
    assert float(encoded.log_scale) == pytest.approx(float(reference["forward/log_s"]), abs=1e-3)
    assert float(encoded.log_determinant) == pytest.approx(float(reference["forward/log_det"]), abs=1e-3)
    assert float(waveglow_loss(encoded)) == pytest.approx(float(reference["forward/loss"]), abs=1e-5)


def test_the_sizes_come_from_the_weights(vocoder):
    expected = WaveGlowSizes(n_mels=4, n_flows=6, n_early_every=4, n_layers=3, n_channels=8)
    assert vocoder.network.sizes == expected
    assert expected.flow_channels == (8, 8, 8, 8, 6, 6)
    assert vocoder.audio.n_mels == 4 and vocoder.audio.hop_length == 256 and vocoder.frame_delay == 0


# Going back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        TINY,
        WaveGlowSizes(n_mels=4, hop_length=4, n_flows=3, n_group=4, n_early_every=9, n_layers=1, n_channels=4),
        WaveGlowSizes(n_mels=3, hop_length=6, n_flows=5, n_group=12, n_early_size=4, n_early_every=2, n_channels=4),
    ],
)
def test_decoding_undoes_encoding(sizes, alternate):
    flow = network(sizes, alternate=alternate)
    wave = torch.randn(2, 8 * sizes.hop_length // sizes.n_group * sizes.n_group)
    mel = torch.randn(2, sizes.n_mels, 9)
    with torch.no_grad():
        encoded = flow.encode(mel, wave)
        assert encoded.z.shape == (2, sizes.n_group, wave.shape[1] // sizes.n_group)
        assert not torch.allclose(encoded.z.transpose(1, 2).flatten(1), wave, atol=0.1)
        assert_equal(flow.decode(mel, encoded.z), wave)
        assert_equal(flow.encode(mel, flow.decode(mel, encoded.z)).z, encoded.z)


def test_the_stretching_that_is_reported_is_that_of_the_volume():
    flow = network(WaveGlowSizes(n_mels=2, hop_length=4, n_flows=3, n_group=4, n_layers=1, n_channels=4)).double()
    mel, wave = torch.randn(1, 2, 3).double(), torch.randn(1, 8).double()
    for mixing in flow.convinv:
        mixing.conv.weight.data *= 1.3
    encoded = flow.encode(mel, wave)
    jacobian = torch.autograd.functional.jacobian(lambda w: flow.encode(mel, w).z.flatten(), wave)[:, 0]
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(encoded.log_scale + encoded.log_determinant, expected)


def test_a_wave_longer_than_its_spectrogram_is_refused():
    with pytest.raises(AudioError, match="5 frames was given for 4096 samples; expected 17"):
        network().encode(torch.zeros(1, 8, 5), torch.zeros(1, 4096))


def test_a_network_that_learned_is_read_back(tmp_path):
    flow = network()
    mel = torch.randn(1, 8, 4)
    read = load_vocoder("waveglow", saved({"state_dict": flow.state_dict()}, tmp_path))
    with torch.no_grad():
        assert_equal(read(mel, 0.0), flow.decode(mel, torch.zeros(flow.noise_shape(mel))))


# Speaking ---------------------------------------------------------------------------------------------------------


def test_vocode_gives_whole_frames_within_full_scale(vocoder, reference):
    loud = reference["mel"][0] + 40
    assert vocoder(loud.unsqueeze(0)).abs().max() > 1.0
    wave = vocode(vocoder, loud)
    assert wave.shape == (5 * 256,) and wave.dtype == np.float32
    assert np.abs(wave).max() <= 1.0


def test_a_frame_is_heard_from_its_centre_on():
    """Upsampling begins there; `log_mel`'s frames, centred at ``t * hop``, therefore need no delay."""
    flow = network(WaveGlowSizes(n_mels=8, n_flows=1, n_early_every=9, n_layers=1, n_channels=8))
    mel = torch.zeros(2, 8, 12)
    mel[1, :, 5] = 3.0
    with torch.no_grad():
        plain, changed = flow.decode(mel, torch.zeros(flow.noise_shape(mel)))
    different = torch.nonzero((plain - changed).abs() > 1e-6).flatten()
    near = 2 * 8  # samples; a WaveNet of one layer looks one group to both sides
    assert abs(int(different[0]) - 5 * 256) <= near
    assert abs(int(different[-1]) - (5 * 256 + 1024)) <= near


def test_noise_of_another_size_is_refused(vocoder, reference):
    with pytest.raises(AudioError, match=r"shape \(2, 8, 5\); expected \(2, 8, 192\)"):
        vocoder(reference["mel"], noise=torch.zeros(2, 8, 5))


@pytest.mark.parametrize("mel", [torch.zeros(1, 5, 3), torch.zeros(4, 3), torch.full((1, 4, 3), torch.nan)])
def test_a_spectrogram_that_cannot_be_spoken_is_refused(mel, vocoder):
    with pytest.raises(AudioError, match="waveglow.* was given a spectrogram"):
        vocoder(mel)


@pytest.fixture
def speaking() -> Callable[..., np.ndarray]:
    """Say a word with a Tacotron 2 and a WaveGlow that have learned nothing; gives the sound."""
    glow = WaveGlow(network(WaveGlowSizes(n_flows=4, n_early_every=2, n_layers=1, n_channels=8)), AudioConfig())
    torch.manual_seed(0)
    synthesizer = Synthesizer(
        Tacotron2(TINY_TACOTRON), glow, speaker=torch.nn.functional.normalize(torch.rand(256), dim=0)
    )

    def say(seed: int, *, strength: float = 0.0) -> np.ndarray:
        glow.strength = strength
        torch.rand(7)  # what was drawn before does not matter
        return synthesizer.say("Yes. No.", seed=seed).wave

    return say


def test_the_same_seed_says_the_same(speaking):
    first = speaking(3)
    np.testing.assert_array_equal(speaking(3), first)
    other = speaking(4)
    assert other.shape != first.shape or not np.allclose(other, first, atol=1e-3)


def test_a_seed_changes_the_noise_too(reference, vocoder):
    """Not only the spectrogram: the same one sounds otherwise, as it does not with another vocoder."""
    synthesizer = Synthesizer(Tacotron2(TINY_TACOTRON), vocoder)
    attempt = Attempt(reference["mel"][0].numpy(), np.zeros((1, 1)), True, (), 1.0)
    one, again, other = (synthesizer._sound(attempt, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other, atol=1e-3)


def test_a_vocoder_denoises_as_it_was_told(reference, weights, tmp_path, speaking):
    told = load_vocoder("waveglow", saved({"state_dict": weights}, tmp_path), denoise=0.1)
    assert_equal(told(reference["mel"], noise=reference["noise"]), reference["denoised"])
    assert_equal(told(reference["mel"], noise=reference["noise"], denoise=0.0), reference["wave"])
    torch.testing.assert_close(told._bias[0, :, 0], reference["denoiser_bias"], atol=1e-3, rtol=1e-4)
    assert not np.allclose(speaking(3, strength=2.0), speaking(3), atol=1e-3)


@pytest.mark.parametrize(("name", "strength"), [("hifigan", 0.1), ("griffin_lim", 1.0), ("waveglow:some.pt", -0.1)])
def test_a_vocoder_without_a_denoiser_says_so(name, strength):
    with pytest.raises(VoiceCloneError, match=f"denoise={strength} .*expected 0 or more, and WaveGlow"):
        load_vocoder(name, denoise=strength)


def test_a_single_frame_is_denoised_too(vocoder):
    assert vocoder(torch.zeros(1, 4, 1), denoise=0.1).shape == (1, 256)


# Checkpoints ------------------------------------------------------------------------------------------------------


def separated(weights: dict[str, torch.Tensor], *, residuals: bool) -> dict[str, torch.Tensor]:
    """The layout before August 2019, or with `residuals` before November 2018."""
    old = {}
    for name, value in weights.items():
        if ".cond_layer." in name:
            for layer, part in enumerate(value.chunk(3)):
                old[name.replace("cond_layer", f"cond_layers.{layer}")] = part
        elif residuals and ".res_skip_layers." in name:
            if len(value) == 16:
                old[name.replace("res_skip", "res")] = value[:8]
            old[name.replace("res_skip", "skip")] = value[-8:]
        else:
            old[name] = value
    return old


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w,
        lambda w: {"model": w, "iteration": 3},
        lambda w: {"state_dict": {f"module.{name}": value for name, value in w.items()}},  # of several GPUs
        fold_weight_norm,
        lambda w: {
            name.replace("weight_g", "parametrizations.weight.original0").replace(
                "weight_v", "parametrizations.weight.original1"
            ): value
            for name, value in w.items()
        },
        lambda w: separated(w, residuals=False),
        lambda w: separated(w, residuals=True),
    ],
    ids=["bare", "model", "parallel", "folded", "parametrized", "2019", "2018"],
)
def test_every_layout_of_a_state_dict_is_read(change, weights, reference, tmp_path):
    vocoder = load_waveglow(saved(change(weights), tmp_path))
    assert_equal(vocoder(reference["mel"], noise=reference["noise"]), reference["wave"])


def test_nvidias_first_network_alternates(weights, reference, tmp_path):
    path = saved(separated(weights, residuals=False), tmp_path)
    vocoder = load_waveglow(path, alternate=True)
    assert_equal(vocoder(reference["mel"], noise=reference["noise"]), reference["alternate/wave"])


def test_half_precision_is_read(weights, reference, tmp_path):
    path = saved({name: value.half() for name, value in weights.items()}, tmp_path)
    wave = load_waveglow(path)(reference["mel"], noise=reference["noise"])
    assert_equal(wave, reference["wave"])  # the reference's weights are exact in half precision


class Module(torch.nn.Module):
    """Stands for NVIDIA's classes, whose code is not here: modules and parameters of the names of a state dict."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        inner: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in weights.items():
            first, _, rest = name.partition(".")
            if rest:
                inner.setdefault(first, {})[rest] = value
            else:
                self.register_parameter(name, torch.nn.Parameter(value.clone()))
        for name, parts in inner.items():
            self.add_module(name, Module(parts))
        self.W_inverse = torch.zeros(3)  # what is no parameter is not read
        self.register_forward_pre_hook(Hook())


class Hook:
    def __call__(self, *given: object) -> None: ...


@pytest.fixture
def module_file(weights, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Write a pickled module as NVIDIA's training writes it, of classes that are gone when it is read."""

    def write(*, modern: bool, wrap=lambda module: {"model": module, "iteration": 7}) -> Path:
        glow = types.ModuleType("glow")
        for kind in (Module, Hook):
            monkeypatch.setattr(kind, "__module__", "glow")
            setattr(glow, kind.__name__, kind)
        path = tmp_path / "module.pt"
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "glow", glow)
            torch.save(wrap(Module(weights)), path, _use_new_zipfile_serialization=modern)
        return path

    return write


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("wrap", [lambda module: {"model": module, "iteration": 7}, lambda module: module])
def test_a_pickled_module_is_read_without_its_classes(modern, wrap, module_file, reference):
    vocoder = load_waveglow(module_file(modern=modern, wrap=wrap))
    assert "glow" not in sys.modules
    assert_equal(vocoder(reference["mel"], noise=reference["noise"]), reference["wave"])


class Attack:
    """What a hostile file would run when opened by pickle: it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class DeepAttack(Attack):
    """The same through what a first call returns."""

    def __reduce__(self):
        return self.path.mkdir, ()


@pytest.mark.parametrize("modern", [True, False])
def test_code_in_a_pickled_module_is_not_run(modern, module_file, reference, tmp_path):
    mark = tmp_path / "ran"
    path = module_file(modern=modern, wrap=lambda module: {"attack": Attack(mark), "model": module})
    vocoder = load_waveglow(path)
    assert not mark.exists()
    assert_equal(vocoder(reference["mel"], noise=reference["noise"]), reference["wave"])


def test_code_that_calls_what_other_code_returned_is_refused(module_file, tmp_path):
    mark = tmp_path / "ran"
    path = module_file(modern=True, wrap=lambda module: {"attack": DeepAttack(mark), "model": module})
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_waveglow(path)
    assert not mark.exists()


@pytest.mark.parametrize("attack", [Attack, DeepAttack])
def test_the_attacks_would_work(attack, tmp_path):
    torch.load(saved(attack(tmp_path / "ran"), tmp_path), weights_only=False)
    assert (tmp_path / "ran").is_dir()


def test_the_reader_keeps_types_shapes_and_views(tmp_path):
    base = torch.arange(12.0)
    content = {
        "whole": base,
        "part": base[3:9].view(2, 3).T,
        "counts": torch.tensor(7),
        "small": torch.tensor([1.5], dtype=torch.bfloat16),
        "name": "no tensor",
    }
    for modern in (True, False):
        path = tmp_path / f"{modern}.pt"
        torch.save(content, path, _use_new_zipfile_serialization=modern)
        read = read_state_dict(path)
        assert list(read) == ["whole", "part", "counts", "small"]
        for name, value in read.items():
            assert value.dtype == content[name].dtype and torch.equal(value, content[name])


@pytest.mark.parametrize("modern", [True, False])
def test_a_torn_module_is_refused(modern, module_file):
    path = module_file(modern=modern)
    whole = path.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 50):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_waveglow(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>Sign in</html>", "is a web page"),
        (b"RIFF....WAVEfmt ", "is a wave file"),
        (b"PK\x03\x04", "cannot be read"),
        (b"\x80\x02N.", "cannot be read"),
        (b"Too many requests.\r\nTry again tomorrow.\n", "cannot be read as weights: it is a text"),
        (b"", "cannot be read as weights: it is empty"),
    ],
)
def test_a_file_that_is_no_weights_is_refused(content, said, tmp_path):
    path = tmp_path / "waveglow.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        load_waveglow(path)


def test_a_folder_is_told_from_a_file(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        load_waveglow(tmp_path)


def test_damaged_bytes_are_refused_or_do_not_matter(module_file):
    path = module_file(modern=False)
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[random.integers(6000)] = random.integers(256)  # within the pickles
        path.write_bytes(damaged)
        try:
            read_state_dict(path, under=("model",))
        except CheckpointError:
            refused += 1
    assert refused > 10


def test_a_tensor_larger_than_its_numbers_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1).expand(10**12)}, tmp_path / "large.pt")
    with pytest.raises(CheckpointError, match="made of 1 numbers"):
        read_state_dict(tmp_path / "large.pt")


def test_a_generator_of_hifigan_is_named():
    with pytest.raises(CheckpointError, match="is no WaveGlow but a HiFi-GAN generator"):
        load_waveglow(package_file(*UNIVERSAL))


def test_without_a_path_it_is_said_where_weights_come_from():
    with pytest.raises(CheckpointError, match=r"waveglow_256channels_universal_v5\.pt .*github\.com/NVIDIA/waveglow"):
        load_vocoder("waveglow")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "nowhere.pt"))):
        load_vocoder("waveglow", tmp_path / "nowhere.pt")


def damage(weights: dict[str, torch.Tensor], how: str) -> None:
    if how == "a layer is missing":
        del weights["WN.3.end.bias"]
    elif how == "a layer has another size":
        weights["WN.5.end.bias"] = torch.zeros(5)
    elif how == "not a number":
        weights["upsample.bias"] = torch.full((4,), torch.nan)
    elif how == "no flows":
        for name in [name for name in weights if name.startswith("convinv")]:
            del weights[name]
    elif how == "uneven flows":
        weights["convinv.2.conv.weight"] = torch.ones(2, 2, 1)
    elif how == "another model":
        weights.clear()
        weights |= {"conv_pre.weight": torch.zeros(3, 3, 3), "resblocks.0.convs1.0.weight": torch.zeros(3, 3, 3)}
    elif how == "nothing":
        weights.clear()


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("a layer is missing", "WN.3.end.bias"),
        ("a layer has another size", "WN.5.end.bias"),
        ("not a number", "not numbers"),
        ("no flows", "convinv.0.conv.weight"),
        ("uneven flows", r"\[8, 8, 2, 8, 6, 6\] channels"),
        ("another model", "but a HiFi-GAN generator"),
        ("nothing", "a file without weights"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_the_reason(how, complaint, weights, tmp_path):
    damage(weights, how)
    with pytest.raises(CheckpointError, match=complaint):
        load_waveglow(saved({"state_dict": weights}, tmp_path))
