"""What the command line's verbs do: each calls one function of the package and says what came of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import VoiceCloneError
from .schedule import Exponential

if TYPE_CHECKING:
    from tqdm import tqdm

    from .train import Step, TrainConfig
    from .vocoders.hifigan_training import TuneStep
    from .vocoders.waveglow_training import WaveGlowStep
    from .voice import Voice

SAMPLE_TAKES = Path(__file__).resolve().parent.parent / "data" / "sample_voice" / "takes"
SAMPLE_SPEAKER = "the voiceclone project: the sample voice is synthetic"


# Verbs ------------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> None:
    """Run the notebooks on a voice and write its report."""
    _run_notebooks(
        options.voice, first=options.first, last=options.last, parameters=dict(options.parameters or ())
    )
    print(f"report: {options.voice / 'report.html'}")


def train(options: argparse.Namespace) -> None:
    """Train the voice from its clips."""
    from .launch import train_by
    from .processes import launched
    from .train import TrainConfig

    config = TrainConfig(preset=options.preset, minutes=options.minutes, steps=options.steps, epochs=options.epochs,
                         run=options.run, resume=options.resume, start=options.start, previews=options.previews,
                         batch_size=options.batch_size, schedule=_schedule(options), seed=options.seed,
                         attention_dropout=options.attention_dropout, decoder_dropout=options.decoder_dropout,
                         speaker=options.speaker, compile=options.compile)  # fmt: skip
    voice = _voice(options)
    if launched():
        _train_together(voice, config)
        return
    step = None
    with _bar(unit=" steps", total=options.steps) as bar:
        for step in train_by(voice, config, processes=options.processes):
            _show(step, bar)
    if step is None:
        print("nothing left to learn: it has had its time or its steps, more --steps train on")
    print(f"run: {voice.run_dir(options.run)}")


def _schedule(options: argparse.Namespace) -> str | Exponential:
    """The schedule's name, or FakeYou's with the values that were given."""
    asked = {field.name: getattr(options, field.name) for field in fields(Exponential)}
    given = {name: value for name, value in asked.items() if value is not None}
    if given and options.schedule != "fakeyou":
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise VoiceCloneError(
            f"The schedule {options.schedule} has no {flags}: add --schedule fakeyou, or leave that out."
        )
    return Exponential(**given) if given else options.schedule


def _train_together(voice: Voice, config: TrainConfig) -> None:
    """The part of one of the processes that `accelerate launch` started: the main one alone shows what is done."""
    from .device import choose_device
    from .launch import stopping
    from .processes import is_main
    from .train import train as steps

    device = choose_device(config.device)
    with stopping(device) as asked, _bar(unit=" steps", total=config.steps, disable=not is_main(device)) as bar:
        taken = steps(voice, config)
        for step in taken:
            _show(step, bar)
            if asked():
                taken.close()
                raise KeyboardInterrupt
    if is_main(device):
        print(f"run: {voice.run_dir(config.run)}")


def _show(step: Step, bar: tqdm) -> None:
    bar.update(step.step - bar.n)
    left = "" if step.seconds_left is None else f", {step.seconds_left / 60:.0f} minutes left"
    bar.set_postfix_str(f"loss {step.loss:.3f}{left}")
    for note in step.notes:
        bar.write(note)


def say(options: argparse.Namespace) -> None:
    """Speak a text into a sound file."""
    from .audio import save
    from .synthesize import Synthesizer

    synthesizer = Synthesizer.open(_voice(options), run=options.run, checkpoint=options.checkpoint,
                                   vocoder=options.vocoder, denoise=options.denoise)  # fmt: skip
    utterance = synthesizer.say(
        options.text, takes=options.takes, seed=options.seed, listener=options.listener
    )
    save(options.output, utterance.wave, utterance.sample_rate)
    print(f"{options.output}: {utterance.duration:.1f} s of speech, made in {utterance.seconds_spent:.1f} s")
    for problem in utterance.problems:
        print(f"voiceclone: {problem}", file=sys.stderr)


def evaluate(options: argparse.Namespace) -> None:
    """Measure how good the voice is, beside its own natural clips."""
    from .evaluate import SENTENCES
    from .evaluate import evaluate as measure
    from .files import atomic_write
    from .synthesize import Synthesizer

    sentences = SENTENCES
    if options.sentences:
        sentences = tuple(
            filter(None, map(str.strip, options.sentences.read_text(encoding="utf-8").splitlines()))
        )
    voice = _voice(options)
    synthesizer = Synthesizer.open(voice, run=options.run, checkpoint=options.checkpoint,
                                   vocoder=options.vocoder, denoise=options.denoise)  # fmt: skip
    result = measure(synthesizer, sentences, engine=options.engine)
    with atomic_write(voice.samples_dir / "evaluation.json", "w") as file:
        json.dump(result.as_dict(), file, indent=2, ensure_ascii=False)
    _print_measures(voice)


def pretrain(options: argparse.Namespace) -> None:
    """Make a base, from which voices start, from a corpus of many speakers."""
    from .device import choose_device, fast_precision
    from .pretrain import PretrainConfig
    from .pretrain import pretrain as steps

    config = PretrainConfig(
        minutes=options.minutes,
        steps=options.steps,
        preset=options.preset,
        start=options.start,
        seed=options.seed,
        transcriber=options.transcriber,
        workers=options.workers,
        loaders=options.loaders,
    )
    learn = replace(
        config.learn,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        mixed_precision=fast_precision(choose_device()),
    )
    config = replace(config, learn=learn)
    with _bar(unit=" clips") as clips, _bar(unit=" steps", total=options.steps) as bar:
        for step in steps(
            options.corpus, out=options.out, config=config, features=options.features, progress=_shown_on(clips)
        ):
            bar.update(step.step - bar.n)
            bar.set_postfix_str(f"{step.seconds / 60:.0f} of {options.minutes:.0f} minutes")
    print(f"base: {options.out}")


def prepare(options: argparse.Namespace) -> None:
    """Find out what is slow to find out of a corpus, on all cores or on a Ray cluster."""
    from .prepare import prepare as find

    with _bar(unit=" clips") as bar:
        prepared = find(options.corpus, out=options.out, engine=options.engine, workers=options.workers,
                        address=options.address, transcriber=options.transcriber, progress=_shown_on(bar))  # fmt: skip
    for clip, problem in prepared.problems.items():
        print(f"{clip}: {problem}", file=sys.stderr)
    print(f"{prepared.made} clips worked on, {prepared.unchanged} unchanged, {len(prepared.problems)} cannot be used")


def tune(options: argparse.Namespace) -> None:
    """Fine-tune a vocoder, HiFi-GAN or WaveGlow, to a trained voice."""
    from .synthesize import find_checkpoint

    voice = _voice(options)
    run = find_checkpoint(voice, options.run).parent.parent
    step, name = (_tune_waveglow if options.vocoder == "waveglow" else _tune_hifigan)(voice, run, options)
    if step is None:
        print("nothing left to learn: it has had its time or its steps, more --minutes or --steps tune on")
    print(f"vocoder: {name}")


def _tune_hifigan(voice: Voice, run: Path, options: argparse.Namespace) -> tuple[TuneStep | None, str | None]:
    """The last step, if any was left to take, and what the vocoder is called."""
    from .vocoders.hifigan_training import TuneConfig
    from .vocoders.hifigan_training import tune as steps
    from .vocoders.tuned import tuned_vocoder

    _only_with("waveglow", options, "channels")
    share = TuneConfig.share if options.share is None else options.share
    config = TuneConfig(minutes=options.minutes, steps=options.steps, run=run.name, start=options.start,
                        share=share, resume=options.resume, seed=options.seed)  # fmt: skip
    step = None
    with _bar(unit=" steps", total=options.steps) as bar:
        for step in steps(voice, config):
            bar.update(step.step - bar.n)
            bar.set_postfix_str(f"mel error {step.learned.mel_loss:.3f}")
    return step, tuned_vocoder(voice, run.name)


def _tune_waveglow(voice: Voice, run: Path, options: argparse.Namespace) -> tuple[WaveGlowStep | None, str]:
    """As `_tune_hifigan`."""
    from .vocoders.tuned import waveglow_of
    from .vocoders.waveglow_network import WaveGlowSizes
    from .vocoders.waveglow_training import WaveGlowConfig, tune_waveglow

    _only_with("hifigan", options, "share")
    sizes = None if options.channels is None else WaveGlowSizes(n_channels=options.channels)
    config = WaveGlowConfig(minutes=options.minutes, steps=options.steps, run=run.name, sizes=sizes,
                            start=options.start, resume=options.resume, seed=options.seed)  # fmt: skip
    step = None
    with _bar(unit=" steps", total=options.steps) as bar:
        for step in tune_waveglow(voice, config):
            bar.update(step.step - bar.n)
            if step.loss is not None:
                bar.set_postfix_str(f"loss {step.loss:.3f}")
            if step.validation_loss is not None:
                bar.write(f"step {step.step}: loss {step.validation_loss:.3f} of the held-out clips")
    return step, f"waveglow:{waveglow_of(run)}"


def _only_with(vocoder: str, options: argparse.Namespace, *names: str) -> None:
    """Refuse options that belong to another vocoder than the one that was chosen."""
    for name in names:
        if getattr(options, name) is not None:
            raise VoiceCloneError(
                f"--{name} belongs to --vocoder {vocoder}, but {options.vocoder} was chosen. Leave it out, or choose "
                f"{vocoder}."
            )


def export(options: argparse.Namespace) -> None:
    """Pack the voice, to be given away or kept."""
    from .export import export as pack

    print(pack(_voice(options), format=options.format, run=options.run))


def import_(options: argparse.Namespace) -> None:
    """Take a checkpoint of NVIDIA's Tacotron 2 or FakeYou into the voice, as a run; or rebuild a voice from its zip."""
    from .export import holds_voice, import_checkpoint, import_zip
    from .text import FAKEYOU, FRONT_END, LETTERS

    trained_on = {None: None, "auto": None, "fakeyou-phonemes": FAKEYOU, "phonemes": FRONT_END, "letters": LETTERS}
    if holds_voice(options.source):
        if options.run or options.trained_on:
            raise VoiceCloneError(
                f"{options.source} holds a voice with its own runs; leave --run and --trained-on out."
            )
        print(f"voice: {import_zip(options.source, root=options.voice.parent, folder=options.voice.name).path}")
        return
    front_end, run = trained_on[options.trained_on], options.run or "imported"
    made = import_checkpoint(_voice(options), options.source, run=run, front_end=front_end)
    for note in made.notes:
        print(f"voiceclone: {note}", file=sys.stderr)
    print(f"run: {_voice(options).run_dir(made.run)} (spoken to as {made.front_end})")


def fetch(options: argparse.Namespace) -> None:
    """Download weights, resumed and verified, and say where they are."""
    from .download import fetch as get

    found = get(options.source)
    for note in found.notes:
        print(f"voiceclone: {note}", file=sys.stderr)
    print(found.path)


def demo(options: argparse.Namespace) -> None:
    """Clone the sample voice that comes with the project: all notebooks, from takes to report."""
    from .voice import Voice

    voice = Voice.create("sample", root=options.root, consent=SAMPLE_SPEAKER)
    parameters = {"takes_from": str(SAMPLE_TAKES), "minutes": options.minutes}
    _run_notebooks(voice.path, parameters=parameters)
    print()
    _print_measures(voice)
    print(f"wav files  {voice.samples_dir.absolute()}")
    print(f"report     {voice.report_path.absolute()}")


# How verbs talk ---------------------------------------------------------------------------------------------------


def _voice(options: argparse.Namespace) -> Voice:
    from .voice import Voice

    return Voice.open(options.voice)


@contextmanager
def _bar(**options: Any) -> Iterator[tqdm]:
    """A progress bar on a terminal, a line every 30 seconds elsewhere."""
    from tqdm import tqdm

    with tqdm(dynamic_ncols=True, mininterval=0.5 if sys.stderr.isatty() else 30.0, **options) as bar:
        yield bar


def _shown_on(bar: tqdm) -> Callable[[int, int], None]:
    """What is called with how many are done and how many there are."""

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show


def _run_notebooks(voice: Path, **options: Any) -> None:
    """Run notebooks with a line for each: cells done, time, and what the running cell shows."""
    from tqdm import tqdm

    from .suite import run as notebooks

    every = 0.2 if sys.stderr.isatty() else 30.0  # seconds between two looks of a line
    bar: tqdm | None = None
    try:
        for progress in notebooks(voice, **options):
            if bar is None or bar.desc != progress.notebook:
                bar = tqdm(desc=progress.notebook, total=progress.cells, dynamic_ncols=True, mininterval=every,
                           bar_format="{desc}  {n_fmt}/{total_fmt} cells  {elapsed}{postfix}")  # fmt: skip
            bar.total, bar.n = progress.cells, progress.cell
            bar.set_postfix_str("done" if progress.path else progress.said[:90], refresh=False)
            if time.time() - bar.last_print_t > every:
                bar.refresh()
                bar.last_print_t = time.time()
            if progress.path:
                bar.close()
    finally:
        if bar is not None:
            bar.close()


def _print_measures(voice: Voice) -> None:
    from .webpage import read_evaluation

    result = read_evaluation(voice)
    if result is None:
        print("nothing was measured")
        return
    print(f"{'':24}{'clone':>8}{'natural':>9}   ({result.voice.count} sentences, heard by {result.engine})")
    for label, name, scale in (("words heard wrong, %", "word_error_rate", 100), ("likeness, 0 to 1", "likeness", 1),
                               ("predicted opinion, 1 to 5", "opinion_score", 1)):  # fmt: skip
        clone, natural = getattr(result.voice, name) * scale, getattr(result.natural, name) * scale
        print(f"{label:26}{clone:6.2f}{natural:9.2f}")
    if result.voice.real_time_factor is not None:
        print(f"{'seconds for one of speech':26}{result.voice.real_time_factor:6.2f}")
    print(f"{'sentences that failed':26}{result.voice.failures:6d}")
