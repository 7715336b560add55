"""The command line: each verb is a function of the package. ``voiceclone --help`` lists them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import VoiceCloneError

if TYPE_CHECKING:
    from tqdm import tqdm

    from .voice import Voice

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended: 128 + SIGINT
SAMPLE_TAKES = Path(__file__).resolve().parent.parent / "data" / "sample_voice" / "takes"
SAMPLE_SPEAKER = "the voiceclone project: the sample voice is synthetic"
DEMO_MINUTES = (
    6.0  # of training: leaves room for the other notebooks within a quarter of an hour on two cores
)


# Verbs ------------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> None:
    """Run the notebooks on a voice and write its report."""
    _run_notebooks(
        options.voice, first=options.first, last=options.last, parameters=dict(options.parameters or ())
    )
    print(f"report: {options.voice / 'report.html'}")


def train(options: argparse.Namespace) -> None:
    """Train the voice from its clips."""
    from .train import TrainConfig
    from .train import train as steps

    config = TrainConfig(preset=options.preset, minutes=options.minutes, steps=options.steps, run=options.run,
                         resume=options.resume, start=options.start, seed=options.seed)  # fmt: skip
    with _bar(unit=" steps", total=options.steps) as bar:
        for step in steps(_voice(options), config):
            bar.update(step.step - bar.n)
            bar.set_postfix_str(f"loss {step.loss:.3f}")
            for note in step.notes:
                bar.write(note)
    print(f"run: {_voice(options).run_dir(options.run)}")


def say(options: argparse.Namespace) -> None:
    """Speak a text into a sound file."""
    from .audio import save
    from .synthesize import Synthesizer

    synthesizer = Synthesizer.open(_voice(options), run=options.run, checkpoint=options.checkpoint,
                                   vocoder=options.vocoder)  # fmt: skip
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
    synthesizer = Synthesizer.open(
        voice, run=options.run, checkpoint=options.checkpoint, vocoder=options.vocoder
    )
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
        start=options.start,
        seed=options.seed,
        workers=options.workers,
    )
    learn = replace(
        config.learn,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        mixed_precision=fast_precision(choose_device()),
    )
    config = replace(config, learn=learn)
    with _bar(unit=" steps", total=options.steps) as bar:
        for step in steps(options.corpus, out=options.out, config=config):
            bar.update(step.step - bar.n)
            bar.set_postfix_str(f"{step.seconds / 60:.0f} of {options.minutes:.0f} minutes")
    print(f"base: {options.out}")


def export(options: argparse.Namespace) -> None:
    """Pack the voice, to be given away or kept."""
    from .export import export as pack

    print(pack(_voice(options), format=options.format, run=options.run))


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


# The parser -------------------------------------------------------------------------------------------------------


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _value(text: str) -> Any:
    """Read a parameter's value as JSON where it is (numbers, true, lists), as text where it is not."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that there are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class _Parameter(argparse.Action):
    """Collects ``-p name value``."""

    def __call__(self, parser: Any, options: Any, values: Any, flag: Any = None) -> None:
        setattr(options, self.dest, [*(getattr(options, self.dest) or ()), (values[0], _value(values[1]))])


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="voiceclone", description="Clone a voice from 25 recorded sentences."
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(function: Any, *, voice: bool = True) -> Any:
        added = verbs.add_parser(
            function.__name__, help=function.__doc__, description=function.__doc__,
            formatter_class=_Help,
        )  # fmt: skip
        added.set_defaults(function=function)
        if voice:
            added.add_argument("voice", type=Path, metavar="VOICE", help="voice folder, such as voices/alice")
        return added

    _run_options(verb(run))
    _train_options(verb(train))
    _speech_options(added := verb(say))
    added.add_argument("text", help="what to say")
    added.add_argument("-o", "--output", type=Path, default=Path("said.wav"), help="wav or flac file")
    added.add_argument("--takes", type=int, default=3, help="tries at each sentence, of which the best is kept")
    added.add_argument("--listener", default="", help="engine that hears the tries: whisper or wav2vec2")
    added.add_argument("--seed", type=int, default=0, help="another seed gives another take")
    _speech_options(added := verb(evaluate))
    added.add_argument(
        "--sentences", type=Path, help="text file, one sentence a line (default: the project's own)"
    )
    added.add_argument("--engine", default="auto", help="recogniser: auto, wav2vec2 or whisper")
    _pretrain_options(verb(pretrain, voice=False))
    added = verb(export)
    added.add_argument(
        "--format", choices=("zip", "fakeyou"), default="zip", help="the whole voice, or a checkpoint"
    )
    added.add_argument("--run", help="training run (default: the last)")
    added = verb(demo, voice=False)
    added.add_argument("--root", type=Path, default=Path("voices"), help="where the voice folder is made")
    added.add_argument("--minutes", type=_positive, default=DEMO_MINUTES, help="minutes of training")
    return parser


def _run_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--from", dest="first", default="00", metavar="NN", help="first notebook")
    added.add_argument("--to", dest="last", default="07", metavar="NN", help="last notebook")
    added.add_argument("-p", dest="parameters", nargs=2, action=_Parameter, metavar=("NAME", "VALUE"),
                       help="a notebook's parameter; may be repeated")  # fmt: skip


def _train_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--preset", choices=("small", "full"), default="small", help="size of the model")
    added.add_argument(
        "--minutes", type=_positive, help="stop after so many in all (default: 8 for small, 120 for full)"
    )
    added.add_argument("--steps", type=int, help="stop after so many steps in all (default: no limit)")
    added.add_argument(
        "--start", help="a base's folder, an NVIDIA checkpoint, or scratch (default: data/base)"
    )
    added.add_argument("--run", default="main", help="name of the training run")
    added.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True,
                       help="go on where the run stopped")  # fmt: skip
    added.add_argument("--seed", type=int, default=1234, help="of everything random")


def _speech_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--run", help="training run (default: the last)")
    added.add_argument("--checkpoint", default="best", help="best, last or a file of the run's checkpoints")
    added.add_argument("--vocoder", default="hifigan",
                       help="hifigan or griffin_lim; with your own weights hifigan:FILE, waveglow:FILE")  # fmt: skip


def _pretrain_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("corpus", type=Path, metavar="CORPUS", help="folder with metadata.csv and sounds")
    added.add_argument("--out", type=Path, default=Path("data/base"), help="where the base is written")
    added.add_argument("--minutes", type=_positive, default=150.0, help="minutes of training in all")
    added.add_argument("--steps", type=int, help="stop after so many steps in all (default: no limit)")
    added.add_argument("--start", metavar="BASE", help="folder of a base to go on from (default: begin anew)")
    added.add_argument("--batch-size", type=int, default=16, help="clips a step")
    added.add_argument("--learning-rate", type=_positive, default=1e-3, help="Adam's, at its highest")
    added.add_argument("--workers", type=int, default=0, help="processes that make batches, beside this one")
    added.add_argument("--seed", type=int, default=1234, help="of everything random")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; errors of ours are one line.

    Returns
    -------
    int
        The exit code: 0 done, 1 an error that was explained, 130 interrupted.
    """
    options = build_parser().parse_args(arguments)
    try:
        options.function(options)
    except (VoiceCloneError, OSError) as error:
        print(f"voiceclone: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("voiceclone: interrupted; what is done is kept, run the same again to go on", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
