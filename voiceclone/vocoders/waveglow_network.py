"""WaveGlow's network (Prenger et al. 2019): noise becomes sound by steps that can be undone.

A wave is cut into groups of 8 samples, and a group is a column of 8 channels. Each flow mixes the channels by a square
matrix, then scales and shifts one half of them by amounts that a small WaveNet finds in the other half and
in the spectrogram. Both can be undone exactly. So training goes from sound to noise (`WaveGlowNetwork.encode`), where
the likelihood is known, and speaking goes from noise to sound (`WaveGlowNetwork.decode`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from ..audio import AudioConfig
from ..errors import AudioError

REACH = 4  # frames that each frame is spread over: NVIDIA's upsampling has a kernel of 1024 samples, a step of 256


@dataclass(frozen=True)
class WaveGlowSizes:
    """Sizes of a network; the defaults are those of NVIDIA's 256-channel checkpoints."""

    n_mels: int = 80  # bands
    hop_length: int = 256  # samples a frame
    n_flows: int = 12
    n_group: int = 8  # samples that are worked on together
    n_early_every: int = 4  # flows; after so many, some channels are done
    n_early_size: int = 2  # channels that are done then
    n_layers: int = 8  # of each WaveNet, each with twice the dilation of the one before
    n_channels: int = 256  # of each WaveNet
    kernel_size: int = 3  # groups

    def __str__(self) -> str:
        """In a few words, for messages."""
        return f"{self.n_flows} flows of {self.n_layers} layers and {self.n_channels} channels"

    @property
    def flow_channels(self) -> tuple[int, ...]:
        """Channels that each flow works on; the first has them all, `n_group`."""
        return tuple(self.n_group - k // self.n_early_every * self.n_early_size for k in range(self.n_flows))

    @property
    def audio(self) -> AudioConfig:
        """The mel spectrogram that the network understands."""
        return AudioConfig(n_mels=self.n_mels, hop_length=self.hop_length)


@dataclass(frozen=True)
class Encoded:
    """A sound as noise, and how much each step has stretched it."""

    z: torch.Tensor  # (batch, n_group, steps)
    log_scale: torch.Tensor  # scalar: sum over all flows, channels and steps
    log_determinant: torch.Tensor  # scalar: sum over all flows and steps


class Mixing(nn.Module):
    """A square matrix over the channels, which begins as a rotation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 1, bias=False)
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        rotation[:, 0] *= torch.linalg.det(rotation).sign()  # NVIDIA's training takes the logarithm of it
        self.conv.weight = nn.Parameter(rotation.unsqueeze(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, steps) -> the same shape."""
        return self.conv(x)

    def inverse(self, x: torch.Tensor) -> torch.Tensor:
        """Undo `forward`."""
        return F.conv1d(x, torch.linalg.inv(self.conv.weight.squeeze(2)).unsqueeze(2))

    def log_determinant(self) -> torch.Tensor:
        """Logarithm of the factor by which a step's volume grows; of its size, as a reflection changes no volume."""
        return torch.linalg.slogdet(self.conv.weight.squeeze(2)).logabsdet


class Coupling(nn.Module):
    """The WaveNet that says by how much to shift and scale one half of the channels, seeing the other."""

    def __init__(self, channels: int, sizes: WaveGlowSizes) -> None:
        super().__init__()
        width, last = sizes.n_channels, sizes.n_layers - 1
        self.start = nn.Conv1d(channels // 2, width, 1)
        self.cond_layer = nn.Conv1d(sizes.n_mels * sizes.n_group, 2 * width * sizes.n_layers, 1)
        self.in_layers, self.res_skip_layers = nn.ModuleList(), nn.ModuleList()
        for layer in range(sizes.n_layers):
            dilation = 2**layer
            padding = dilation * (sizes.kernel_size - 1) // 2
            self.in_layers.append(nn.Conv1d(width, 2 * width, sizes.kernel_size, dilation=dilation, padding=padding))
            self.res_skip_layers.append(nn.Conv1d(width, width if layer == last else 2 * width, 1))
        self.end = nn.Conv1d(width, channels, 1)
        nn.init.zeros_(self.end.weight)  # at first a coupling changes nothing
        nn.init.zeros_(self.end.bias)

    def forward(self, half: torch.Tensor, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shift and logarithm of the scale for the other half.

        (batch, channels / 2, steps), (batch, n_mels * n_group, steps) -> twice (batch, channels / 2, steps)
        """
        x = self.start(half)
        total = torch.zeros_like(x)
        # One layer's share of the condition at a time: all at once would be by far the largest tensor of all.
        shares = (part.chunk(len(self.in_layers)) for part in (self.cond_layer.weight, self.cond_layer.bias))
        for layer, res_skip, weight, bias in zip(self.in_layers, self.res_skip_layers, *shares, strict=True):
            signal, gate = (layer(x) + F.conv1d(condition, weight, bias)).chunk(2, dim=1)
            skip = res_skip(torch.tanh(signal) * torch.sigmoid(gate))
            if skip.shape[1] > x.shape[1]:  # all but the last layer also change what the next one sees
                change, skip = skip.chunk(2, dim=1)
                x = x + change
            total = total + skip
        shift, log_scale = self.end(total).chunk(2, dim=1)
        return shift, log_scale


class WaveGlowNetwork(nn.Module):
    """All flows; the parameters have NVIDIA's names, without weight norm.

    Parameters
    ----------
    sizes : WaveGlowSizes
        See there.
    alternate : bool
        Every second flow changes the first half of the channels, as in NVIDIA's first network
        (``waveglow_old.pt``, 512 channels) and none since.
    """

    def __init__(self, sizes: WaveGlowSizes, *, alternate: bool = False) -> None:
        super().__init__()
        self.sizes, self.alternate = sizes, alternate
        self.upsample = nn.ConvTranspose1d(
            sizes.n_mels, sizes.n_mels, REACH * sizes.hop_length, stride=sizes.hop_length
        )
        self.WN = nn.ModuleList(Coupling(channels, sizes) for channels in sizes.flow_channels)
        self.convinv = nn.ModuleList(Mixing(channels) for channels in sizes.flow_channels)

    def encode(self, mel: torch.Tensor, wave: torch.Tensor) -> Encoded:
        """Turn sound into noise.

        Parameters
        ----------
        mel : torch.Tensor, shape (batch, n_mels, frames)
            Its frame t is centred on sample ``t * hop_length``, as in `voiceclone.audio.log_mel`.
        wave : torch.Tensor, shape (batch, samples)
            Samples beyond the last whole group are left out.

        Raises
        ------
        AudioError
            If the wave goes on where the spectrogram has ended.
        """
        steps = wave.shape[1] // self.sizes.n_group
        x = self._grouped(wave.unsqueeze(1), steps)
        condition = self._condition(mel, steps)
        log_scale = log_determinant = torch.zeros((), device=x.device)
        done = []
        for k, channels in enumerate(self.sizes.flow_channels):
            early = x.shape[1] - channels
            done.append(x[:, :early])
            x = self.convinv[k](x[:, early:])
            kept, changed = self._halves(x, k)
            shift, stretch = self.WN[k](kept, condition)
            x = self._joined(kept, changed * stretch.exp() + shift, k)
            log_scale = log_scale + stretch.sum()
            log_determinant = log_determinant + self.convinv[k].log_determinant() * len(x) * steps
        return Encoded(torch.cat((*done, x), dim=1), log_scale, log_determinant)

    def decode(self, mel: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Turn noise into sound: what `encode` does, undone.

        Parameters
        ----------
        mel : torch.Tensor, shape (batch, n_mels, frames)
            As for `encode`.
        z : torch.Tensor, shape (batch, n_group, steps)
            Noise of the deviation that is wanted.

        Returns
        -------
        torch.Tensor, shape (batch, steps * n_group)
        """
        condition = self._condition(mel, z.shape[2])
        x = z[:, :0]
        for k, channels in reversed(list(enumerate(self.sizes.flow_channels))):
            first = self.sizes.n_group - channels  # of the channels that this flow works on
            x = torch.cat((z[:, first : z.shape[1] - x.shape[1]], x), dim=1)
            kept, changed = self._halves(x, k)
            shift, stretch = self.WN[k](kept, condition)
            x = self.convinv[k].inverse(self._joined(kept, (changed - shift) * torch.exp(-stretch), k))
        return x.transpose(1, 2).flatten(1)  # (batch, n_group, steps) -> (batch, steps, n_group) -> (batch, samples)

    def noise_shape(self, mel: torch.Tensor) -> tuple[int, int, int]:
        """Size of the noise that speaks a spectrogram: (batch, n_group, steps)."""
        batch, _, frames = mel.shape
        return batch, self.sizes.n_group, frames * self.sizes.hop_length // self.sizes.n_group

    def draw(self, mel: torch.Tensor) -> torch.Tensor:
        """Noise of deviation 1 to speak a spectrogram: torch's next random numbers, in the order of NVIDIA's code."""
        batch, _, steps = self.noise_shape(mel)
        channels = self.sizes.flow_channels
        early = [before - now for before, now in pairwise(channels) if before > now]
        last_first = [torch.randn(batch, count, steps) for count in (channels[-1], *reversed(early))]
        return torch.cat(last_first[::-1], dim=1)

    def _condition(self, mel: torch.Tensor, steps: int) -> torch.Tensor:
        """(batch, n_mels, frames) -> (batch, n_mels * n_group, steps)."""
        spread = self.upsample(mel)
        if spread.shape[2] < steps * self.sizes.n_group:
            raise AudioError(
                f"A spectrogram of {mel.shape[2]} frames was given for {steps * self.sizes.n_group} samples; expected "
                f"{steps * self.sizes.n_group // self.sizes.hop_length + 1} frames, as log_mel makes them."
            )
        return self._grouped(spread, steps)

    def _grouped(self, x: torch.Tensor, steps: int) -> torch.Tensor:
        """(batch, rows, samples) -> (batch, rows * n_group, steps)."""
        x = x[:, :, : steps * self.sizes.n_group].unflatten(2, (steps, self.sizes.n_group))
        return x.transpose(2, 3).flatten(1, 2)  # (batch, rows, steps, n_group) -> (batch, rows, n_group, steps)

    def _halves(self, x: torch.Tensor, flow: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Split the channels into the half that a flow keeps and the half that it changes."""
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.alternate and flow % 2 else (first, second)

    def _joined(self, kept: torch.Tensor, changed: torch.Tensor, flow: int) -> torch.Tensor:
        """Undo `_halves`."""
        return torch.cat((changed, kept) if self.alternate and flow % 2 else (kept, changed), dim=1)
