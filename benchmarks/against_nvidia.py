"""How fast the `full` preset is beside the code that it interchanges checkpoints with, on the CPU.

Run it: ``python benchmarks/against_nvidia.py --tacotron2 FOLDER [--hifigan FOLDER]``

The folders are checkouts of github.com/NVIDIA/tacotron2 and github.com/jik876/hifi-gan, which stay as they are: what
today's libraries no longer have is lent to them while they are imported. Both sides get the same weights, and before
anything is timed it is made sure that they say the same. Each measurement runs in a process of its own, whose peak
memory is then its alone.

- training: a step of batch, frames and symbols as asked for, all with forward, backward, clipping and Adam;
- speaking: frames made one after another from the frames before, for one sentence or several;
- HiFi-GAN: log-mels to sound, the authors' generator after its ``remove_weight_norm``.

The share of the machine is what a step's matrix products and convolutions would take at the rate at which it
multiplies two large matrices, over what the step takes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch.nn import functional as F

from voiceclone.files import package_file
from voiceclone.learn import LearnConfig, Learner
from voiceclone.tacotron2 import FULL, Tacotron2
from voiceclone.tacotron2.checkpoint import to_nvidia_names
from voiceclone.text import SYMBOLS
from voiceclone.vocoders.hifigan import UNIVERSAL, load_hifigan

PEERS = {  # what is measured: (ours, theirs, what is said of it)
    "training": ("ours", "nvidia", "a training step"),
    "speaking": ("ours", "nvidia", "speaking"),
    "hifigan": ("ours", "authors", "HiFi-GAN"),
}
TOLERANCE = 1e-4  # of outputs, in the units of a log-mel or of full scale
NEVER = 1.0  # a gate threshold that no probability passes: both speak on to the last step


# The others' code -------------------------------------------------------------------------------------------------


@contextmanager
def importing_from(folder: Path, **lent: ModuleType | SimpleNamespace) -> Iterator[None]:
    """Import from a checkout within the block; its modules' names (`utils`, `layers`) are free again after it."""
    before, path = set(sys.modules), list(sys.path)
    sys.modules.update(lent)
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if name in lent or Path(file).is_relative_to(folder.resolve()):
                del sys.modules[name]


def nvidia(folder: Path, steps: int) -> tuple[torch.nn.Module, torch.nn.Module, ModuleType]:
    """NVIDIA's model and loss with its own settings, and its module ``model``."""
    contrib = SimpleNamespace(training=SimpleNamespace(HParams=SimpleNamespace))  # its settings were TensorFlow's
    with importing_from(folder, tensorflow=SimpleNamespace(contrib=contrib), text=SimpleNamespace(symbols=SYMBOLS)):
        settings = importlib.import_module("hparams").create_hparams()
        module = importlib.import_module("model")
        loss = importlib.import_module("loss_function").Tacotron2Loss()
    settings.max_decoder_steps, settings.gate_threshold = steps, NEVER
    # The mask is made on a GPU there; the model has no other call that needs one.
    module.get_mask_from_lengths = lambda n: torch.arange(int(n.max())) < n.unsqueeze(1)
    return module.Tacotron2(settings), loss, module


def authors_generator(folder: Path) -> torch.nn.Module:
    """HiFi-GAN's generator by its authors' code, with the weights that the vocoder has too."""
    content = torch.load(package_file(*UNIVERSAL), map_location="cpu", weights_only=True)["generator"]
    settings = SimpleNamespace(**json.loads((folder / "config_v1.json").read_text(encoding="utf-8")))
    with importing_from(folder):
        generator = importlib.import_module("models").Generator(settings)
    generator.load_state_dict(content)
    generator.eval().remove_weight_norm()
    return generator


# What both sides are given ----------------------------------------------------------------------------------------


def batch_of(options: argparse.Namespace) -> tuple[torch.Tensor, ...]:
    """Text, its lengths, mels, their lengths; the first is the longest, as NVIDIA's code wants."""
    torch.manual_seed(1)
    shorter = torch.arange(options.batch)
    lengths = (options.symbols - 2 * shorter).clamp(min=4)
    mel_lengths = (options.frames - 5 * shorter).clamp(min=8)
    text = torch.randint(1, len(SYMBOLS), (options.batch, options.symbols))
    mels = torch.randn(options.batch, FULL.n_mels, options.frames)
    return (
        text.masked_fill(torch.arange(options.symbols) >= lengths.unsqueeze(1), 0),
        lengths,
        mels.masked_fill((torch.arange(options.frames) >= mel_lengths.unsqueeze(1)).unsqueeze(1), 0.0),
        mel_lengths,
    )


def models(options: argparse.Namespace) -> tuple[Tacotron2, torch.nn.Module, torch.nn.Module, ModuleType]:
    """Ours, NVIDIA's with the same weights, its loss and its module."""
    torch.manual_seed(0)
    ours = Tacotron2(FULL)
    theirs, loss, module = nvidia(options.tacotron2, options.steps)
    theirs.load_state_dict(to_nvidia_names(ours.state_dict()))
    return ours, theirs, loss, module


def largest(difference: torch.Tensor) -> float:
    """How far apart two tensors are at most, from their difference."""
    return float(difference.abs().max())


@torch.no_grad()
def check_tacotron(options: argparse.Namespace) -> str:
    """Compare what both say with the prenet's dropout off.

    Raises
    ------
    AssertionError
        If it is not the same.
    """
    ours, theirs, _, module = models(options)
    ours.eval(), theirs.eval()
    ours.decoder.prenet.dropout = 0.0
    text, lengths, mels, mel_lengths = batch_of(options)
    inside = torch.arange(options.frames) < mel_lengths.unsqueeze(1)
    own = {name: getattr(F, name) for name in dir(F)}
    module.F = SimpleNamespace(**own | {"dropout": lambda x, *_, **__: x})  # the prenet's cannot be set from outside
    mel, mel_postnet, gate, alignment = theirs((text, lengths, mels, int(lengths.max()), mel_lengths))
    out = ours(text, lengths, mels, mel_lengths)
    taught = [out.mel - mel, out.mel_postnet - mel_postnet, (out.gate - gate) * inside, out.alignment - alignment]
    spoken = ours.infer(text[:1], lengths[:1], options.steps, gate_threshold=NEVER).mel_postnet
    free = largest(spoken - theirs.inference(text[:1, : int(lengths[0])])[1])
    worst = max(map(largest, taught))
    assert worst < TOLERANCE and free < TOLERANCE, f"outputs differ by {worst:.1e} taught and {free:.1e} speaking"
    return f"same outputs: within {worst:.0e} taught, {free:.0e} speaking"


@torch.no_grad()
def check_hifigan(options: argparse.Namespace) -> str:
    """Compare the waves that both make.

    Raises
    ------
    AssertionError
        If they are not the same.
    """
    mel = torch.randn(1, FULL.n_mels, 40) - 5
    difference = largest(load_hifigan()(mel) - authors_generator(options.hifigan)(mel)[:, 0])
    assert difference < TOLERANCE, f"waves differ by {difference:.1e}"
    return f"same waves: within {difference:.0e}"


# What is timed ----------------------------------------------------------------------------------------------------


def our_training(options: argparse.Namespace) -> Callable[[], object]:
    """A step of our learner, with the paper's losses alone and no average of the weights."""
    from voiceclone.dataset import Batch

    torch.manual_seed(0)
    text, lengths, mels, mel_lengths = batch_of(options)
    batch = Batch(text, lengths, mels, mel_lengths, None, None, None)
    precision = "bf16" if options.half else "no"
    learner = Learner(Tacotron2(FULL), LearnConfig(average=0.0, mixed_precision=precision), device="cpu")
    return lambda: learner.learn(batch, 0.0)


def nvidia_training(options: argparse.Namespace) -> Callable[[], object]:
    """A step as NVIDIA's ``train.py`` takes it."""
    torch.manual_seed(0)
    model, criterion, _ = nvidia(options.tacotron2, options.steps)
    text, lengths, mels, mel_lengths = batch_of(options)
    gate = (torch.arange(options.frames) >= mel_lengths.unsqueeze(1) - 1).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-6)
    model.train()

    def step() -> None:
        model.zero_grad()
        x, y = model.parse_batch((text, lengths, mels, gate, mel_lengths))
        criterion(model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def our_speaking(options: argparse.Namespace) -> Callable[[], object]:
    """Sentences, free-running, all takes of all of them at once, as the synthesizer asks for them."""
    torch.manual_seed(0)
    model = Tacotron2(FULL).eval()
    text, lengths = (part[: options.sentences].repeat_interleave(options.takes, 0) for part in batch_of(options)[:2])
    if options.half:
        model.decoder.pack()
    return lambda: model.infer(text, lengths, options.steps, gate_threshold=NEVER)


def nvidia_speaking(options: argparse.Namespace) -> Callable[[], object]:
    """The same by NVIDIA's ``inference``, one after another: it takes no more at once."""
    torch.manual_seed(0)
    model = nvidia(options.tacotron2, options.steps)[0].eval()
    text, lengths = batch_of(options)[:2]
    texts = [row[None, :length] for row, length in zip(text, lengths.tolist(), strict=True)][: options.sentences]
    return torch.no_grad()(lambda: [model.inference(text) for text in texts for _ in range(options.takes)])


def our_hifigan(options: argparse.Namespace) -> Callable[[], object]:
    """Our generator."""
    vocoder, mel = load_hifigan(), torch.randn(1, FULL.n_mels, options.frames) - 5
    return lambda: vocoder(mel)


def authors_hifigan(options: argparse.Namespace) -> Callable[[], object]:
    """The authors' generator."""
    generator, mel = authors_generator(options.hifigan), torch.randn(1, FULL.n_mels, options.frames) - 5
    return torch.no_grad()(lambda: generator(mel))


TIMED = {
    ("training", "ours"): our_training,
    ("training", "nvidia"): nvidia_training,
    ("speaking", "ours"): our_speaking,
    ("speaking", "nvidia"): nvidia_speaking,
    ("hifigan", "ours"): our_hifigan,
    ("hifigan", "authors"): authors_hifigan,
}


def measure(what: str, whose: str, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of some runs after one that warms up, and the highest memory of this process in MB."""
    run = TIMED[what, whose](options)
    before = _peak_memory()
    times = []
    for _ in range(options.repeats + 1):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return {"seconds": statistics.median(times[1:]), "peak": _peak_memory(), "before": before}


def _peak_memory() -> float:
    """MB. Linux's `ru_maxrss` is no help: a process begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 2**10


def matrix_rate(size: int = 2048, dtype: torch.dtype = torch.float32) -> float:
    """Operations a second at which this machine multiplies two large matrices."""
    a, b, times = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype), []
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(times[1:])


def operations(options: argparse.Namespace) -> dict[str, float]:
    """Operations of each task's matrix products and convolutions, counted in the others' code as it runs."""
    from torch.utils.flop_counter import FlopCounterMode

    counted = {}
    for what in wanted(options):
        theirs = PEERS[what][1]
        with FlopCounterMode(display=False) as counter:
            TIMED[what, theirs](options)()
        counted[what] = float(counter.get_total_flops())
    return counted


# Reporting --------------------------------------------------------------------------------------------------------


def wanted(options: argparse.Namespace) -> list[str]:
    """What can be measured with the folders that were given."""
    tasks = ["training", "speaking"] * bool(options.tacotron2) + ["hifigan"] * bool(options.hifigan)
    return [task for task in tasks if options.only in (None, task)]


def in_own_process(*task: str) -> Any:
    """What a fresh process says that does one task of this file with the same options."""
    command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--task", *task]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def report(options: argparse.Namespace) -> None:
    """Check, measure and print."""
    if options.tacotron2:
        print(check_tacotron(options))
    if options.hifigan:
        print(check_hifigan(options))
    rate = matrix_rate(dtype=torch.float32)
    print(f"{options.threads} threads, {rate / 1e9:.0f} billion operations a second in a product of matrices (float32)")
    needed = operations(options)
    for what in wanted(options):
        ours_name, theirs_name, label = PEERS[what]
        # by turns, so that what else the machine does falls on both
        ours, theirs = (in_own_process("measure", what, whose) for whose in (ours_name, theirs_name))
        print(f"{label}{_sizes(what, options)}: {theirs['seconds'] / ours['seconds']:.2f} times as fast")
        for whose, found in (("ours", ours), (theirs_name, theirs)):
            share = needed[what] / rate / found["seconds"]
            print(f"  {whose:8}{found['seconds']:7.2f} s  {100 * share:4.0f} % of the machine"
                  f"  peak {found['peak']:6.0f} MB, {found['before']:.0f} MB of it before the first run")  # fmt: skip


def _sizes(what: str, options: argparse.Namespace) -> str:
    precision = {"training": " in bfloat16 (ours)", "speaking": ", weights in float16 (ours)"}.get(what, "")
    precision = precision if options.half else ""
    if what == "training":
        return f" of {options.batch} clips, {options.frames} frames, {options.symbols} symbols{precision}"
    if what == "hifigan":
        return f" {options.frames} frames"
    sentences = f" {options.sentences} sentences of" if options.sentences > 1 else ""
    takes = f", {options.takes} takes" if options.takes > 1 else ""
    return f"{sentences} {options.steps} frames{takes}{precision}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tacotron2", type=Path, help="checkout of github.com/NVIDIA/tacotron2")
    parser.add_argument("--hifigan", type=Path, help="checkout of github.com/jik876/hifi-gan")
    parser.add_argument("--batch", type=int, default=6, help="clips of a training step")
    parser.add_argument("--frames", type=int, default=400, help="of each clip")
    parser.add_argument("--symbols", type=int, default=60, help="of each text")
    parser.add_argument("--steps", type=int, default=400, help="frames to speak")
    parser.add_argument("--sentences", type=int, default=1, help="that are spoken, which ours speaks at once")
    parser.add_argument("--takes", type=int, default=1, help="of each sentence, which ours speaks at once")
    parser.add_argument("--only", choices=list(PEERS), help="measure nothing else")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--half", action="store_true", help="let ours train in bfloat16 and speak with float16 weights")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not wanted(options):
        parser.error("give at least one of --tacotron2 and --hifigan")
    torch.set_num_threads(options.threads)
    if options.task:
        print(json.dumps(measure(*options.task[1:], options)))
    else:
        report(options)


if __name__ == "__main__":
    main()
