"""WaveGlow as a vocoder, reading NVIDIA's checkpoints; the network itself is in `waveglow_network`."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cached_property
from pathlib import Path

import torch

from ..audio import AudioConfig
from ..errors import AudioError, CheckpointError
from ..weights import fold_weight_norm, read_state_dict, what_it_holds
from .base import Vocoder
from .waveglow_network import REACH, WaveGlowNetwork, WaveGlowSizes

SIGMA = 0.6  # deviation of the noise when speaking: less than it was trained with sounds cleaner, says the paper
BIAS_FRAMES = 88  # of the silence in which the denoiser looks for what the model always adds; NVIDIA's choice
SEPARATE_LAYER = re.compile(r"(WN\.\d+)\.(cond|res|skip)_layers\.(\d+)\.(weight|bias)")  # of old checkpoints
Weights = dict[str, torch.Tensor]


class WaveGlow(Vocoder):
    """A network as a vocoder.

    Parameters
    ----------
    network : WaveGlowNetwork
    audio : AudioConfig
        The mel spectrogram that it understands.
    device : str or torch.device
        Where to compute.
    strength : float
        How much to take away of what the model adds to every sound, see `denoise`; 0 is nothing.
    """

    name = "waveglow"

    def __init__(
        self,
        network: WaveGlowNetwork,
        audio: AudioConfig,
        device: str | torch.device = "cpu",
        *,
        strength: float = 0.0,
    ) -> None:
        self.audio = audio
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.strength = strength

    def __call__(
        self,
        mel: torch.Tensor,
        sigma: float = SIGMA,
        *,
        noise: torch.Tensor | None = None,
        denoise: float | None = None,
    ) -> torch.Tensor:
        """Speak a batch of spectrograms.

        Parameters
        ----------
        mel : torch.Tensor, shape (batch, n_mels, frames)
            Natural logarithm of mel magnitudes; frame t is centred on sample ``t * hop_length``.
        sigma : float
            Deviation of the noise that the sound is made from; 0 is the same every time, and dull.
        noise : torch.Tensor, shape (batch, n_group, frames * hop_length / n_group), optional
            Of deviation 1; without it torch's random numbers are used, so that `torch.manual_seed` repeats a sound.
        denoise : float, optional
            How much to take away of what the model adds to every sound; its own `strength` unless given.

        Returns
        -------
        torch.Tensor, shape (batch, frames * hop_length)
            float32 on the CPU; full scale is 1.

        Raises
        ------
        AudioError
            If the spectrogram or the noise is of another shape, or the spectrogram holds values that are not numbers.
        """
        mel = self._checked(mel)
        if noise is not None and noise.shape != self.network.noise_shape(mel):
            raise AudioError(
                f"waveglow was given noise of shape {tuple(noise.shape)}; expected {self.network.noise_shape(mel)} "
                "(batch, samples of a group, groups) for this spectrogram."
            )
        wave = self._speak(mel, sigma, noise).cpu()
        strength = self.strength if denoise is None else denoise
        return self.denoise(wave, strength) if strength else wave

    @torch.inference_mode()
    def _speak(self, mel: torch.Tensor, sigma: float = SIGMA, noise: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, n_mels, frames) -> (batch, frames * hop_length)."""
        noise = self.network.draw(mel) if noise is None else noise
        return self.network.decode(mel.to(self.device), sigma * noise.to(self.device))

    def denoise(self, wave: torch.Tensor, strength: float = 0.1) -> torch.Tensor:
        """Subtract from every frame's spectrum what the model says when given neither spectrogram nor noise.

        Parameters
        ----------
        wave : torch.Tensor, shape (batch, samples)
            What the vocoder made.
        strength : float
            How often to subtract it; NVIDIA begins with 0.1.

        Returns
        -------
        torch.Tensor, shape (batch, samples)
        """
        spectrum = self._spectrum(wave)
        magnitude = (spectrum.abs() - strength * self._bias).clamp_min(0.0)
        hop, window = self.audio.n_fft // 4, torch.hann_window(self.audio.n_fft)
        cleaned = torch.polar(magnitude, spectrum.angle())
        return torch.istft(cleaned, self.audio.n_fft, hop, window=window, length=wave.shape[1])

    @cached_property
    def _bias(self) -> torch.Tensor:
        """Magnitudes of what the model always adds, (1, n_fft / 2 + 1, 1)."""
        mel = torch.zeros(1, self.audio.n_mels, BIAS_FRAMES)
        wave = self(mel, noise=torch.zeros(self.network.noise_shape(mel)), denoise=0.0)
        return self._spectrum(wave).abs()[:, :, :1]

    def _spectrum(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, samples) -> complex (batch, n_fft / 2 + 1, frames)."""
        n_fft = self.audio.n_fft
        mode = "reflect" if wave.shape[1] > n_fft // 2 else "constant"  # too short to be reflected at its ends
        window = torch.hann_window(n_fft)
        return torch.stft(wave, n_fft, n_fft // 4, window=window, pad_mode=mode, return_complex=True)


# Checkpoints ------------------------------------------------------------------------------------------------------


def load_waveglow(
    path: str | Path | None, *, alternate: bool = False, device: str | torch.device = "cpu"
) -> WaveGlow:
    """Read a network, running no code in the file.

    All sizes come from the weights, but for the samples a frame: those are a quarter of the upsampling's kernel, as
    in all that NVIDIA has trained.

    Parameters
    ----------
    path : str or Path
        ``{"model": pickled module}`` as NVIDIA's training writes it, ``{"state_dict": ...}``, or either bare; with
        weight norm or without, in today's layout or those of 2018 and 2019.
    alternate : bool
        True for ``waveglow_old.pt`` alone, see `WaveGlowNetwork`: its weights do not tell.
    device : str or torch.device
        Where to compute.

    Raises
    ------
    CheckpointError
        If there is no path, or the file is missing, damaged or holds no WaveGlow.
    """
    if path is None:
        raise CheckpointError(
            "WaveGlow needs the path of its weights: none come with this package. Get NVIDIA's "
            "waveglow_256channels_universal_v5.pt (linked in the README of github.com/NVIDIA/waveglow; 22,050 Hz, any "
            "voice) and give its path, as in waveglow:FILE, or speak with hifigan, which needs no file."
        )
    # Where the weights of the others are, too, so that they are named: HiFi-GAN's are under "generator".
    weights = _todays_layout(read_state_dict(path, under=("state_dict", "model", "generator")))
    sizes = _sizes(weights, path)
    with torch.device("meta"):  # no random weights: the read ones take their place
        network = WaveGlowNetwork(sizes, alternate=alternate)
    expected = network.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys()) or [k for k in expected if expected[k].shape != weights[k].shape]
    if wrong:
        raise CheckpointError(f"{path} is no WaveGlow: {wrong[0]} and {len(wrong) - 1} other weights differ from one.")
    if not all(value.isfinite().all() for value in weights.values()):
        raise CheckpointError(f"{path} holds weights that are not numbers. Take an earlier checkpoint.")
    network.load_state_dict(weights, assign=True)
    return WaveGlow(network, sizes.audio, device)


def _todays_layout(weights: Weights) -> Weights:
    """Weights as `WaveGlowNetwork` has them: single precision, no weight norm, layers joined as since August 2019.

    Before, each layer had its own ``cond_layers``; before November 2018, also ``res_layers`` and ``skip_layers``.
    """
    floats = {name.removeprefix("module."): value.float() for name, value in weights.items()}
    today, separate = {}, defaultdict(dict)
    for name, value in fold_weight_norm(floats).items():
        found = SEPARATE_LAYER.fullmatch(name)
        if not found:
            today[name] = value
            continue
        flow, kind, layer, part = found.groups()
        joined = f"{flow}.cond_layer.{part}" if kind == "cond" else f"{flow}.res_skip_layers.{layer}.{part}"
        separate[joined][kind, int(layer)] = value  # sorted: cond by layer, res before skip
    return today | {name: torch.cat([parts[key] for key in sorted(parts)]) for name, parts in separate.items()}


def _sizes(weights: Weights, path: str | Path) -> WaveGlowSizes:
    """What sizes the network has that these weights belong to."""
    needed = ("upsample.weight", "convinv.0.conv.weight", "WN.0.in_layers.0.weight")
    missing = [name for name in needed if name not in weights or weights[name].ndim != 3]
    if missing:
        raise CheckpointError(
            f"{path} is no WaveGlow but {what_it_holds(weights) if weights else 'a file without weights'}: it has no "
            f"{missing[0]} of 3 dimensions. Give a checkpoint of github.com/NVIDIA/waveglow, such as "
            "waveglow_256channels_universal_v5.pt."
        )
    n_flows = sum(re.fullmatch(r"convinv\.\d+\.conv\.weight", name) is not None for name in weights)
    channels = [len(weights.get(f"convinv.{k}.conv.weight", ())) for k in range(n_flows)]
    falls = [k for k in range(1, n_flows) if channels[k] < channels[k - 1]]
    _, width, kernel = weights["WN.0.in_layers.0.weight"].shape
    sizes = WaveGlowSizes(
        n_mels=weights["upsample.weight"].shape[0],
        hop_length=weights["upsample.weight"].shape[2] // REACH,
        n_flows=n_flows,
        n_group=channels[0],
        n_early_every=falls[0] if falls else n_flows,
        n_early_size=channels[0] - channels[falls[0]] if falls else 0,
        n_layers=sum(re.fullmatch(r"WN\.0\.in_layers\.\d+\.weight", name) is not None for name in weights),
        n_channels=width,
        kernel_size=kernel,
    )
    if sizes.flow_channels != tuple(channels):
        raise CheckpointError(f"{path} is no WaveGlow: its flows have {channels} channels, expected to fall evenly.")
    return sizes
