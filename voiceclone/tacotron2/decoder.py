"""Decoder: speaks the encoded text frame by frame (paper, section 2.2).

Teacher-forced (`forward`) only the attention loop is stepped through: the prenet runs over all frames before it, the
second LSTM, the projection and the gate over all steps after it. Free-running (`step`) everything is stepped. The
weights are the same and so are the results.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .attention import Attention
from .config import Tacotron2Config
from .layers import linear, lstm_precision


class Prenet(nn.Module):
    """Two layers that squeeze the last frame; their dropout is on even when speaking, so that takes differ."""

    def __init__(self, in_dim: int, config: Tacotron2Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [linear(in_dim, config.prenet_dim, bias=False), linear(config.prenet_dim, config.prenet_dim, bias=False)]
        )
        self.dropout = config.prenet_dropout
        self.speaking_dropout = config.speaking_dropout

    def forward(self, frames: torch.Tensor, *, speaking: bool = False) -> torch.Tensor:
        """(..., frame_size * n_frames_per_step) -> (..., prenet_dim)."""
        dropout = min(self.dropout, self.speaking_dropout) if speaking else self.dropout
        for layer in self.layers:
            frames = F.dropout(F.relu(layer(frames)), dropout, training=True)
        return frames


class Memory(NamedTuple):
    """The text as the decoder reads it, made once a sentence."""

    encoded: torch.Tensor  # (batch, symbols, width)
    projected: torch.Tensor  # (batch, symbols, attention_dim)
    outside: torch.Tensor | None  # (batch, symbols), True after a text's end
    kernel: torch.Tensor  # (2 * kernel_size, attention_dim), the folded location layer


class AttentionState(NamedTuple):
    """What the attention loop carries from step to step."""

    spoken: torch.Tensor  # (batch, attention_rnn_dim + width), hidden state and context
    cell: torch.Tensor  # (batch, attention_rnn_dim)
    weights: torch.Tensor  # (batch, symbols)
    weights_sum: torch.Tensor  # (batch, symbols)


class DecoderState(NamedTuple):
    """What free-running decoding carries from step to step."""

    attention: AttentionState
    hidden: torch.Tensor  # (batch, decoder_rnn_dim)
    cell: torch.Tensor  # (batch, decoder_rnn_dim)


class StepOutput(NamedTuple):
    """What one decoder step gives."""

    frames: torch.Tensor  # (batch, n_frames_per_step * frame_size)
    decided: torch.Tensor  # (batch, decoder_rnn_dim + width), of which `gate_layer` and `pitch_layer` make theirs
    weights: torch.Tensor  # (batch, symbols)


class FullWeights:
    """How both LSTMs come by their gates in a free-running step, in the weights' own precision.

    Speaking reads every weight once a step, so on a CPU it is as slow as memory is. A context is a mean of the text's
    symbols; what it adds to the gates is the same mean of what each symbol adds. Where these numbers are fewer than
    the context's weights, they are made once a sentence and read in their stead.
    """

    def __init__(self, decoder: Decoder, encoded: torch.Tensor) -> None:
        self.first, self.second = first, second = decoder.attention_rnn, decoder.decoder_rnn
        self.sizes = first.hidden_size, encoded.shape[2]  # of the two parts of what was spoken
        self.of_frames, of_context = first.weight_ih.split((decoder.prenet.layers[-1].out_features, self.sizes[1]), 1)
        self.of_hidden, of_context_again = second.weight_ih.split(self.sizes, 1)
        self.of_context = of_context, of_context_again  # (4 * rnn_dim, width) each
        self.of_symbols = None
        if len(encoded.flatten(0, 1)) < self.sizes[1]:
            self.of_symbols = [F.linear(encoded, weight) for weight in self.of_context]  # (batch, symbols, 4 * rnn_dim)
        self.biases = first.bias_ih + first.bias_hh, second.bias_ih + second.bias_hh

    def attention_gates(self, frames: torch.Tensor, state: AttentionState) -> torch.Tensor:
        """Of the prenet's output (batch, prenet_dim) and the last step's state: (batch, 4 * attention_rnn_dim)."""
        hidden, context = state.spoken.split(self.sizes, 1)
        gates = self._context_gates(0, context, state.weights)
        return torch.addmm(torch.addmm(gates, frames, self.of_frames.t()), hidden, self.first.weight_hh.t())

    def decoder_gates(self, state: AttentionState, decoded: torch.Tensor) -> torch.Tensor:
        """Of this step's attention and the decoder LSTM's hidden state: (batch, 4 * decoder_rnn_dim)."""
        hidden, context = state.spoken.split(self.sizes, 1)
        gates = self._context_gates(1, context, state.weights)
        return torch.addmm(torch.addmm(gates, hidden, self.of_hidden.t()), decoded, self.second.weight_hh.t())

    def _context_gates(self, which: int, context: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """What the context adds to the gates of the attention LSTM (0) or of the decoder LSTM (1), and their bias."""
        if self.of_symbols is None:
            return F.linear(context, self.of_context[which], self.biases[which])
        return torch.baddbmm(self.biases[which], weights.unsqueeze(1), self.of_symbols[which]).squeeze(1)


class HalfWeights:
    """The same in half precision, as FBGEMM multiplies it with float32: half the bytes to read.

    Products are summed in float32; log-mels change by some thousandths.
    """

    def __init__(self, decoder: Decoder) -> None:
        first, second, size = decoder.attention_rnn, decoder.decoder_rnn, decoder.prenet.layers[-1].out_features
        self.of_frames = self._pack(first.weight_ih[:, :size], first.bias_ih + first.bias_hh)
        self.of_spoken = self._pack(torch.cat((first.weight_hh, first.weight_ih[:, size:]), 1))
        self.of_both = self._pack(torch.cat((second.weight_ih, second.weight_hh), 1), second.bias_ih + second.bias_hh)

    @staticmethod
    def possible() -> bool:
        """Whether torch has FBGEMM here: on x86."""
        return "fbgemm" in torch.backends.quantized.supported_engines

    @staticmethod
    def _pack(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
        packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().float().contiguous(), bias)
        return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, packed)

    def attention_gates(self, frames: torch.Tensor, state: AttentionState) -> torch.Tensor:
        """As of `FullWeights`."""
        return self.of_frames(frames) + self.of_spoken(state.spoken)

    def decoder_gates(self, state: AttentionState, decoded: torch.Tensor) -> torch.Tensor:
        """As of `FullWeights`."""
        return self.of_both(torch.cat((state.spoken, decoded), 1))


class SumOverSteps(torch.autograd.Function):
    """A weight that is used in every step of a loop gets its gradient in one product after the loop, not in each.

    Inside the loop the weight is detached; what the loop adds to it, `driven`, has the same gradient as the product
    of weight and input, so that all steps' inputs are all that is missing when the gradient comes back here.
    """

    @staticmethod
    def forward(ctx, driven: torch.Tensor, weight: torch.Tensor, inputs: list[torch.Tensor]) -> torch.Tensor:
        """(steps, batch, out) goes through unchanged; `inputs` are filled by the loop, (batch, in) each."""
        ctx.inputs, ctx.dtype = inputs, weight.dtype
        return driven.view_as(driven)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """The gradients of `driven` and of the weight (out, in)."""
        inputs = torch.stack(ctx.inputs[: len(gradient)]).to(gradient.dtype)
        of_weight = gradient.flatten(0, 1).t() @ inputs.flatten(0, 1)
        return gradient, of_weight.to(ctx.dtype), None


def _lstm_cell(gates: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden state and cell, (batch, size) each, of the gates before their nonlinearities, (batch, 4 * size)."""
    size = cell.shape[1]
    i_and_f, g, o = gates.split((2 * size, size, size), 1)
    i, f = torch.sigmoid(i_and_f).chunk(2, 1)
    cell = torch.addcmul(f * cell, i, torch.tanh(g))
    return torch.sigmoid(o) * torch.tanh(cell), cell


class Decoder(nn.Module):
    """Attention LSTM, attention, decoder LSTM, projection to frames, and the gate that says stop."""

    def __init__(self, config: Tacotron2Config) -> None:
        super().__init__()
        self.frame_size = config.frame_size
        self.n_frames_per_step = r = config.n_frames_per_step
        self.attention_dropout = config.attention_dropout
        self.decoder_dropout = config.decoder_dropout
        width, out_dim = config.symbols_embedding_dim, config.frame_size * config.n_frames_per_step
        self.prenet = Prenet(out_dim, config)
        self.attention_rnn = nn.LSTMCell(config.prenet_dim + width, config.attention_rnn_dim)
        self.attention_layer = Attention(config)
        self.decoder_rnn = nn.LSTMCell(config.attention_rnn_dim + width, config.decoder_rnn_dim)
        self.linear_projection = linear(config.decoder_rnn_dim + width, out_dim)
        self.gate_layer = linear(config.decoder_rnn_dim + width, 1, gain="sigmoid")
        # Pitch is said but not read again: what is not fed back cannot drift away from the text.
        self.pitch_layer = linear(config.decoder_rnn_dim + width, 2 * r) if config.envelope_order else None
        self.packed: HalfWeights | None = None
        self.compiled = False  # let torch's compiler merge what the loop of `forward` does in a step into few kernels

    @torch.no_grad()
    def pack(self) -> bool:
        """Speak with `HalfWeights`, if this is a machine that can, until the model is trained or moved again."""
        self.packed = None
        if HalfWeights.possible() and self.linear_projection.weight.device.type == "cpu":
            self.packed = HalfWeights(self)
        return self.packed is not None

    def train(self, mode: bool = True) -> Decoder:
        """As of every module; packed weights would stay what they are while the others learn."""
        self.packed = None if mode else self.packed
        return super().train(mode)

    def _apply(self, change: Callable, recurse: bool = True) -> Decoder:
        self.packed = None  # of weights that are about to be moved
        return super()._apply(change, recurse)

    def read(self, encoded: torch.Tensor, outside: torch.Tensor | None) -> Memory:
        """Prepare the encoder's output (batch, symbols, width) to be attended to."""
        attention = self.attention_layer
        return Memory(
            encoded, attention.project_memory(encoded), outside, attention.location_layer.folded_kernel()
        )

    def step_weights(self, encoded: torch.Tensor) -> FullWeights | HalfWeights:
        """What `step` multiplies with, prepared for one text (batch, symbols, width)."""
        return FullWeights(self, encoded) if self.packed is None or torch.is_grad_enabled() else self.packed

    def initial_state(self, encoded: torch.Tensor) -> DecoderState:
        """All zeros, as the go frame is."""
        batch, symbols, width = encoded.shape
        zeros = encoded.new_zeros
        attention_dim, decoder_dim = self.attention_rnn.hidden_size, self.decoder_rnn.hidden_size
        attention = AttentionState(
            zeros(batch, attention_dim + width),
            zeros(batch, attention_dim),
            zeros(batch, symbols),
            zeros(batch, symbols),
        )
        return DecoderState(attention, zeros(batch, decoder_dim), zeros(batch, decoder_dim))

    def _attend(
        self,
        state: AttentionState,
        gates: torch.Tensor,
        memory: Memory,
        outside: torch.Tensor | None,
        kept: torch.Tensor | None,
    ) -> AttentionState:
        """One turn of the loop: attention LSTM, then attention.

        `gates` (batch, 4 * attention_rnn_dim) are the LSTM's before their nonlinearities, `kept`
        (batch, attention_rnn_dim) what dropout makes of ones, None where it is off.
        """
        hidden, cell = _lstm_cell(gates, state.cell)
        hidden = hidden if kept is None else hidden * kept
        past = torch.stack((state.weights, state.weights_sum), 1)  # (batch, 2, symbols)
        context, weights = self.attention_layer(hidden, memory.encoded, memory.projected, past, outside, memory.kernel)
        return AttentionState(torch.cat((hidden, context), 1), cell, weights, state.weights_sum + weights)

    def forward(
        self, encoded: torch.Tensor, outside: torch.Tensor | None, frames: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """Decode with the true frames as input.

        Parameters
        ----------
        encoded : torch.Tensor, shape (batch, symbols, width)
        outside : torch.Tensor or None, shape (batch, symbols)
            True after each text's end.
        frames : torch.Tensor, shape (batch, frame_size, frames)
            The true ones; `frames` is a multiple of ``n_frames_per_step``.

        Returns
        -------
        frames : torch.Tensor, shape (batch, frame_size, frames)
        pitch : torch.Tensor or None, shape (batch, 2, frames)
            Pitch and voicing's logit, where the model says pitch.
        gate : torch.Tensor, shape (batch, steps)
        alignment : torch.Tensor, shape (batch, steps, symbols)
        """
        groups = self.group(frames)  # (steps, batch, n_frames_per_step * frame_size)
        previous = torch.cat((torch.zeros_like(groups[:1]), groups[:-1]))
        memory, rnn, size = self.read(encoded, outside), self.attention_rnn, self.prenet.layers[-1].out_features
        recurrent = torch.cat((rnn.weight_hh, rnn.weight_ih[:, size:]), 1)  # for hidden state and context
        driven = F.linear(self.prenet(previous), rnn.weight_ih[:, :size], rnn.bias_ih + rnn.bias_hh)
        # In the loop only its one large product is worth the type that autocast multiplies in: what is small takes
        # longer in it.
        wide = torch.promote_types(encoded.dtype, torch.float32)
        memory = memory._replace(
            encoded=encoded.to(wide), projected=memory.projected.to(wide), kernel=memory.kernel.to(wide)
        )
        state = self.initial_state(memory.encoded).attention
        read = [state.spoken]  # by each step from the one before
        driven = SumOverSteps.apply(driven, recurrent, read)  # (steps, batch, 4 * attention_rnn_dim)
        recurrent = recurrent.detach().to(driven.dtype).t()
        spoken, weights = [], []
        mixed = driven.dtype != wide
        attend = _compiled_attend() if self.compiled else Decoder._attend
        with torch.autocast(encoded.device.type, enabled=False) if mixed else nullcontext():
            for step, kept in zip(driven, self._dropout(driven), strict=True):
                gates = torch.addmm(step, state.spoken.to(step.dtype), recurrent)
                state = attend(self, state, gates, memory, outside, kept)
                spoken.append(state.spoken)
                read.append(state.spoken.detach())
                weights.append(state.weights)
        spoken = torch.stack(spoken).to(driven.dtype)  # (steps, batch, attention_rnn_dim + width)
        decided = self._decoder_rnn_over_all(spoken)
        decided = F.dropout(decided, self.decoder_dropout, self.training)
        decided = torch.cat((decided, spoken[:, :, self.attention_rnn.hidden_size :]), 2)
        said = self.ungroup(self.linear_projection(decided))
        pitch = None if self.pitch_layer is None else self.ungroup(self.pitch_layer(decided))
        gate = self.gate_layer(decided).squeeze(2).t()  # (steps, batch) -> (batch, steps)
        return said, pitch, gate, torch.stack(weights, 1)

    def _dropout(self, driven: torch.Tensor) -> torch.Tensor | list[None]:
        """The attention LSTM's dropout for all steps, drawn at once: (steps, batch, attention_rnn_dim), or Nones."""
        if not self.training or not self.attention_dropout:
            return [None] * len(driven)
        return F.dropout(driven.new_ones(*driven.shape[:2], self.attention_rnn.hidden_size), self.attention_dropout)

    def _decoder_rnn_over_all(self, spoken: torch.Tensor) -> torch.Tensor:
        """The decoder LSTM over (steps, batch, in) in one call; the same weights as its cell's."""
        rnn = self.decoder_rnn
        weights = [rnn.weight_ih, rnn.weight_hh, rnn.bias_ih, rnn.bias_hh]
        with lstm_precision(spoken) as spoken, warnings.catch_warnings():
            # cuDNN has to copy a cell's weights side by side, which is soon done.
            warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
            zeros = spoken.new_zeros(1, spoken.shape[1], rnn.hidden_size)
            return torch.lstm(spoken, (zeros, zeros), weights, True, 1, 0.0, self.training, False, False)[0]

    def step(
        self,
        state: DecoderState,
        frames: torch.Tensor,
        memory: Memory,
        weights: FullWeights | HalfWeights,
        outside: torch.Tensor | None = None,
    ) -> tuple[DecoderState, StepOutput]:
        """Decode one step.

        Parameters
        ----------
        state : DecoderState
        frames : torch.Tensor, shape (batch, n_frames_per_step * frame_size)
            The last step's frames; zeros at first.
        memory : Memory
            From `read`.
        weights : FullWeights or HalfWeights
            From `step_weights`, of the same text.
        outside : torch.Tensor or None, shape (batch, symbols)
            Where no attention may fall in this step; the memory's own mask unless given.
        """
        gates = weights.attention_gates(self.prenet(frames, speaking=True), state.attention)
        outside = memory.outside if outside is None else outside
        attention = self._attend(state.attention, gates, memory, outside, self._dropout(gates[None])[0])
        hidden, cell = _lstm_cell(weights.decoder_gates(attention, state.hidden), state.cell)
        dropped = F.dropout(hidden, self.decoder_dropout, self.training)
        decided = torch.cat((dropped, attention.spoken[:, self.attention_rnn.hidden_size :]), 1)
        output = StepOutput(self.linear_projection(decided), decided, attention.weights)
        return DecoderState(attention, hidden, cell), output

    def group(self, frames: torch.Tensor) -> torch.Tensor:
        """(batch, size, frames) -> (steps, batch, n_frames_per_step * size)."""
        batch, size, count = frames.shape
        steps = count // self.n_frames_per_step
        return frames.transpose(1, 2).reshape(batch, steps, self.n_frames_per_step * size).transpose(0, 1)

    def ungroup(self, groups: torch.Tensor) -> torch.Tensor:
        """(steps, batch, n_frames_per_step * size) -> (batch, size, frames)."""
        steps, batch, size = groups.shape
        frames = groups.transpose(0, 1).reshape(batch, steps * self.n_frames_per_step, size // self.n_frames_per_step)
        return frames.transpose(1, 2)


@cache
def _compiled_attend() -> Callable[..., AttentionState]:
    """`Decoder._attend`, which torch compiles when it is first called."""
    return torch.compile(Decoder._attend)
