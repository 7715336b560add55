"""How much the whole-sequence decoder saves: a training step beside the same sizes run step by step.

Run it: ``python benchmarks/train_step.py [--preset small] [--batch 12] [--seconds 5] [--precision no] [--compile]``

All forms compute on a GPU where there is one, in the precision that training takes there, unless another is asked for.
With ``--compile`` the whole-sequence decoder is measured with its loop compiled, too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from voiceclone.audio import AudioConfig
from voiceclone.device import choose_device, fast_precision
from voiceclone.learn import PRECISIONS
from voiceclone.tacotron2 import PRESETS, LossConfig, Tacotron2, TacotronOutput, tacotron_loss
from voiceclone.tacotron2.attention import Attention
from voiceclone.tacotron2.layers import mask_from_lengths


def step_by_step(model: Tacotron2, text, text_lengths, mels, mel_lengths, speaker, pitch) -> TacotronOutput:
    """The teacher-forced pass as the paper draws it: everything inside the loop over decoder steps.

    Same weights and same result, but nothing prepared before the loop or left until after it: the cells are torch's,
    and the location layer is a convolution followed by a projection.
    """
    decoder, config = model.decoder, model.config
    encoded = model.encode(text, text_lengths, speaker)
    outside = ~mask_from_lengths(text_lengths, text.shape[1])
    projected = decoder.attention_layer.project_memory(encoded)
    known = (mels - model.mel_mean) / model.mel_deviation
    groups = decoder.group(known if model.envelope is None else model.envelope.analyse(known))
    zeros = encoded.new_zeros
    hidden = cell = zeros(len(text), config.attention_rnn_dim)
    decided = decided_cell = zeros(len(text), config.decoder_rnn_dim)
    context, weights = zeros(len(text), encoded.shape[2]), zeros(len(text), text.shape[1])
    weights_sum, frames, outputs = weights, torch.zeros_like(groups[0]), []
    for group in groups:
        read = torch.cat((decoder.prenet(frames), context), 1)
        hidden, cell = decoder.attention_rnn(read, (hidden, cell))
        hidden = F.dropout(hidden, config.attention_dropout, model.training)
        context, weights = attend(decoder.attention_layer, hidden, encoded, projected, weights, weights_sum, outside)
        weights_sum = weights_sum + weights
        decided, decided_cell = decoder.decoder_rnn(torch.cat((hidden, context), 1), (decided, decided_cell))
        last = torch.cat((F.dropout(decided, config.decoder_dropout, model.training), context), 1)
        said_pitch = None if decoder.pitch_layer is None else decoder.pitch_layer(last)
        outputs.append((decoder.linear_projection(last), said_pitch, decoder.gate_layer(last).squeeze(1), weights))
        frames = group
    said, pitches, gates, alignment = zip(*outputs, strict=True)
    said_pitch = None if decoder.pitch_layer is None else decoder.ungroup(torch.stack(pitches))
    mel, corrected = model._draw(decoder.ungroup(torch.stack(said)), said_pitch, pitch)
    scaled = [m * model.mel_deviation + model.mel_mean for m in (mel, corrected)]
    stopped = torch.ones_like(mel_lengths, dtype=torch.bool)
    return TacotronOutput(
        *scaled, torch.stack(gates, 1), torch.stack(alignment, 1), mel_lengths, stopped, said_pitch
    )


def attend(layer: Attention, query, memory, projected, weights, weights_sum, outside) -> tuple:
    """Location-sensitive attention, a layer after the other: context and weights."""
    location = layer.location_layer
    features = location.location_conv(torch.stack((weights, weights_sum), 1)).transpose(1, 2)
    hidden = torch.tanh(layer.query_layer(query).unsqueeze(1) + location.location_dense(features) + projected)
    energies = layer.v(hidden).squeeze(2).masked_fill(outside, -torch.inf)
    weights = torch.softmax(energies, 1)
    return torch.bmm(weights.unsqueeze(1), memory).squeeze(1), weights


def check_equal(model: Tacotron2, batch: tuple) -> None:
    """Both forms must say the same, or their times could not be compared."""
    was, model.decoder.prenet.dropout = model.decoder.prenet.dropout, 0.0
    with torch.no_grad():
        one, other = step_by_step(model.eval(), *batch), model(*batch)
    torch.testing.assert_close(one.mel_postnet, other.mel_postnet, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(one.alignment, other.alignment, atol=1e-4, rtol=1e-3)
    model.decoder.prenet.dropout = was
    model.train()


def seconds(
    forward: Callable[..., TacotronOutput], model: Tacotron2, batch: tuple, options: argparse.Namespace
) -> float:
    """Median time of a forward and backward pass."""
    times, precision, on_gpu = [], options.precision, options.device != "cpu"
    for _ in range(options.repeats + 1):  # the first warms up
        began = time.perf_counter()
        with torch.autocast(torch.device(options.device).type, PRECISIONS[precision], enabled=precision != "no"):
            output = forward(*batch)
        tacotron_loss(model, output, batch[2], None, LossConfig(), batch[-1]).total.backward()
        model.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small", choices=list(PRESETS))
    parser.add_argument("--batch", type=int, default=12, help="clips")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=list(PRECISIONS), help="no is float32")
    parser.add_argument("--compile", action="store_true", help="measure the compiled loop too")
    parser.add_argument("--device", default=choose_device())
    options = parser.parse_args()
    options.precision = options.precision or fast_precision(options.device)
    if options.device != "cpu":
        torch.set_float32_matmul_precision("high")  # TF32, as training has it
    torch.manual_seed(0)
    model = Tacotron2(PRESETS[options.preset]).to(options.device)
    r = model.config.n_frames_per_step
    frames = round(options.seconds * AudioConfig().frames_per_second) // r * r
    symbols = round(14 * options.seconds)
    batch = (
        torch.randint(1, 148, (options.batch, symbols)),
        torch.full((options.batch,), symbols),
        torch.randn(options.batch, 80, frames),
        torch.full((options.batch,), frames),
        torch.randn(options.batch, 256) if model.config.speaker_dim else None,
        100 + 100 * torch.rand(options.batch, frames),
    )
    batch = tuple(part if part is None else part.to(options.device) for part in batch)
    check_equal(model, batch)
    stepped = seconds(lambda *b: step_by_step(model, *b), model, batch, options)
    whole = seconds(model, model, batch, options)
    form = "float32" if options.precision == "no" else options.precision
    on_gpu = options.device != "cpu"
    where = torch.cuda.get_device_name(options.device) if on_gpu else f"{torch.get_num_threads()} threads"
    print(f"{options.preset}, {options.batch} clips of {options.seconds} s, {form}, {where}")
    print(f"step by step    {stepped:6.2f} s")
    print(f"whole sequence  {whole:6.2f} s   ({stepped / whole:.2f} times as fast)")
    if options.compile:
        model.decoder.compiled = True
        compiled = seconds(model, model, batch, options)
        print(f"and compiled    {compiled:6.2f} s   ({stepped / compiled:.2f} times as fast)")


if __name__ == "__main__":
    main()
