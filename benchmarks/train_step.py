"""How much the whole-sequence decoder saves: a training step beside the same sizes run step by step.

Run it: ``python benchmarks/train_step.py [--preset small] [--batch 12] [--seconds 5]``
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from voiceclone.audio import AudioConfig
from voiceclone.tacotron2 import PRESETS, LossConfig, Tacotron2, TacotronOutput, tacotron_loss
from voiceclone.tacotron2.layers import mask_from_lengths


def step_by_step(model: Tacotron2, text, text_lengths, mels, mel_lengths, speaker, pitch) -> TacotronOutput:
    """The teacher-forced pass as the paper draws it: everything inside the loop over decoder steps."""
    decoder, config = model.decoder, model.config
    encoded = model.encode(text, text_lengths, speaker)
    memory = decoder.read(encoded, ~mask_from_lengths(text_lengths, text.shape[1]))
    known = (mels - model.mel_mean) / model.mel_deviation
    groups = decoder.group(known if model.envelope is None else model.envelope.analyse(known))
    state, frames, outputs = decoder.initial_state(encoded), torch.zeros_like(groups[0]), []
    for group in groups:
        state, output = decoder.step(state, frames, memory)
        outputs.append(output)
        frames = group
    said = decoder.ungroup(torch.stack([output.frames for output in outputs]))
    said_pitch = None if model.envelope is None else decoder.ungroup(torch.stack([o.pitch for o in outputs]))
    mel, corrected = model._draw(said, said_pitch, pitch)
    gate = torch.stack([output.gate for output in outputs], 1)
    weights = torch.stack([output.weights for output in outputs], 1)
    scaled = [m * model.mel_deviation + model.mel_mean for m in (mel, corrected)]
    stopped = torch.ones(len(text), dtype=torch.bool)
    assert mel.shape[2] % config.n_frames_per_step == 0
    return TacotronOutput(*scaled, gate, weights, mel_lengths, stopped, said_pitch)


def seconds(forward: Callable[..., TacotronOutput], model: Tacotron2, batch: tuple, repeats: int) -> float:
    """Median time of a forward and backward pass."""
    times = []
    for _ in range(repeats + 1):  # the first warms up
        began = time.perf_counter()
        tacotron_loss(model, forward(*batch), batch[2], None, LossConfig(), batch[-1]).total.backward()
        model.zero_grad()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small", choices=list(PRESETS))
    parser.add_argument("--batch", type=int, default=12, help="clips")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = Tacotron2(PRESETS[options.preset])
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
    stepped = seconds(lambda *b: step_by_step(model, *b), model, batch, options.repeats)
    whole = seconds(model, model, batch, options.repeats)
    print(f"{options.preset}, {options.batch} clips of {options.seconds} s, {torch.get_num_threads()} threads")
    print(f"step by step    {stepped:6.2f} s")
    print(f"whole sequence  {whole:6.2f} s   ({stepped / whole:.2f} times as fast)")


if __name__ == "__main__":
    main()
