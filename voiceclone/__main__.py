"""The command line: ``voiceclone --help`` lists its verbs, ``verbs.py`` holds them."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import verbs
from .errors import VoiceCloneError
from .schedule import FAKEYOU, FAKEYOU_BATCH, FAKEYOU_EPOCHS

SOURCES = "a checkpoint's file, URL#sha256=..., hf://owner/name/file, or a known name such as nvidia-ljspeech"
INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended: 128 + SIGINT
DEMO_MINUTES = 6.0  # of training: leaves room for the other notebooks within a quarter of an hour on two cores


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
        return action.help if action.default in (None, "") else super()._get_help_string(action)


class _Parameter(argparse.Action):
    """Collects ``-p name value``."""

    def __call__(self, parser: Any, options: Any, values: Any, flag: Any = None) -> None:
        setattr(options, self.dest, [*(getattr(options, self.dest) or ()), (values[0], _value(values[1]))])


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="voiceclone", description="Clone a voice from 25 recorded sentences."
    )
    known = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(function: Any, *, voice: bool = True) -> Any:
        added = known.add_parser(
            function.__name__.strip("_"), help=function.__doc__, description=function.__doc__,
            formatter_class=_Help,
        )  # fmt: skip
        added.set_defaults(function=function)
        if voice:
            added.add_argument("voice", type=Path, metavar="VOICE", help="voice folder, such as voices/alice")
        return added

    _run_options(verb(verbs.run))
    _train_options(verb(verbs.train))
    _say_options(verb(verbs.say))
    _evaluate_options(verb(verbs.evaluate))
    _pretrain_options(verb(verbs.pretrain, voice=False))
    _prepare_options(verb(verbs.prepare, voice=False))
    _tune_options(verb(verbs.tune))
    added = verb(verbs.export)
    added.add_argument(
        "--format", choices=("zip", "fakeyou"), default="zip", help="the whole voice, or a checkpoint"
    )
    added.add_argument("--run", help="training run (default: the last)")
    _import_options(verb(verbs.import_))
    added = verb(verbs.fetch, voice=False)
    added.add_argument("source", help=SOURCES)
    added = verb(verbs.demo, voice=False)
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
    added.add_argument("--minutes", type=_positive,
                       help="stop after so many in all (default: 8 for small, 60 for full with 25 clips, "
                       "unless steps or epochs are given)")  # fmt: skip
    added.add_argument("--steps", type=int,
                       help="stop after so many in all (default: 300 from data/base with 25 clips, else no "
                       "limit)")  # fmt: skip
    added.add_argument("--epochs", type=int, help="stop when each clip was learned from so often (default: no limit)")
    added.add_argument("--batch-size", type=int, help="clips a step, over all processes (default: fits the clips)")
    added.add_argument("--attention-dropout", type=float, metavar="SHARE",
                       help="of the attention's LSTM in training (default: 0.1)")  # fmt: skip
    added.add_argument("--decoder-dropout", type=float, metavar="SHARE",
                       help="of the decoder's LSTM in training (default: 0.1)")  # fmt: skip
    added.add_argument("--previews", type=int, default=6,
                       help="how often the voice is listened to, and a checkpoint written")  # fmt: skip
    added.add_argument("--speaker", action="store_true",
                       help="give the full preset a speaker embedding, for bases of many speakers")  # fmt: skip
    added.add_argument("--compile", action="store_true",
                       help="merge a GPU's many small kernels into few; the first steps take longer")  # fmt: skip
    added.add_argument("--processes", type=int, default=1, help="processes to train with, one a GPU")
    added.add_argument(
        "--start", help=f"a base's folder, {SOURCES}, or scratch (default: data/base for small, scratch for full)"
    )
    added.add_argument("--run", default="main", help="name of the training run")
    added.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True,
                       help="go on where the run stopped")  # fmt: skip
    added.add_argument("--seed", type=int, default=1234, help="of everything random")
    added.add_argument("--schedule", choices=("cosine", "fakeyou"), default="cosine",
                       help=f"how the learning rate falls; fakeyou brings its batches of {FAKEYOU_BATCH} clips, too, "
                       f"and its {FAKEYOU_EPOCHS} epochs unless minutes, steps or epochs are given")  # fmt: skip
    _fakeyou_options(added.add_argument_group(
        "with --schedule fakeyou", "The learning rate is A until the iteration DECAY_START, then "
        "A * exp(-(iteration - DECAY_START) / B) + C, but never below MIN_LEARNING_RATE."
    ))  # fmt: skip


def _fakeyou_options(added: argparse._ArgumentGroup) -> None:
    """The fields of `Exponential`; what is not given stays None, so that it can be told from what is."""
    added.add_argument("--A", type=float, help=f"the rate at first (default: {FAKEYOU.A:g})")
    added.add_argument("--B", type=float,
                       help=f"iterations in which what is above C falls to 1/e (default: {FAKEYOU.B:g})")  # fmt: skip
    added.add_argument("--C", type=float, help=f"what it falls to (default: {FAKEYOU.C:g})")
    added.add_argument("--decay-start", type=int,
                       help=f"iteration from which it falls (default: {FAKEYOU.decay_start})")  # fmt: skip
    added.add_argument("--min-learning-rate", type=float,
                       help=f"the rate at last (default: {FAKEYOU.min_learning_rate:g})")  # fmt: skip
    added.add_argument("--stretch", action=argparse.BooleanOptionalAction,
                       help="fit it to the budget, or count iterations as they are (default: --stretch)")  # fmt: skip


def _say_options(added: argparse.ArgumentParser) -> None:
    _speech_options(added)
    added.add_argument("text", help="what to say")
    added.add_argument("-o", "--output", type=Path, default=Path("said.wav"), help="wav or flac file")
    added.add_argument("--takes", type=int, default=3, help="tries at each sentence, of which the best is kept")
    added.add_argument("--listener", default="", help="engine that hears the tries: whisper or wav2vec2")
    added.add_argument("--seed", type=int, default=0, help="another seed gives another take")


def _evaluate_options(added: argparse.ArgumentParser) -> None:
    _speech_options(added)
    added.add_argument(
        "--sentences", type=Path, help="text file, one sentence a line (default: the project's own)"
    )
    added.add_argument("--engine", default="auto", help="recogniser: auto, wav2vec2 or whisper")


def _speech_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--run", help="training run (default: the last)")
    added.add_argument("--checkpoint", default="best", help="best, last or a file of the run's checkpoints")
    added.add_argument("--vocoder", default="auto",
                       help="hifigan_tuned, waveglow_tuned, hifigan or griffin_lim; with your own weights "
                       "hifigan:FILE, waveglow:FILE; auto: the HiFi-GAN that was tuned to the voice where there is "
                       "one, else hifigan")  # fmt: skip
    added.add_argument("--denoise", type=float, default=0.0, metavar="S",
                       help="with WaveGlow: how much to remove of what it always adds; NVIDIA takes 0.1")  # fmt: skip


def _pretrain_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("corpus", type=Path, metavar="CORPUS", help="folder with metadata.csv and sounds")
    added.add_argument("--out", type=Path, default=Path("data/base"), help="where the base is written")
    added.add_argument("--minutes", type=_positive, default=150.0, help="minutes of training in all")
    added.add_argument("--steps", type=int, help="stop after so many steps in all (default: no limit)")
    added.add_argument("--preset", choices=("small", "full"), default="small", help="size of the model")
    added.add_argument("--start", metavar="BASE", help="a base to go on from, or a checkpoint (default: begin anew)")
    added.add_argument("--batch-size", type=int, default=16, help="clips a step")
    added.add_argument("--learning-rate", type=_positive, default=1e-3, help="Adam's, at its highest")
    added.add_argument("--loaders", type=int,
                       help="processes that make batches, beside this one (default: one with a GPU)")  # fmt: skip
    added.add_argument("--features", type=Path, help="folder of what prepare finds (default: features/ in the corpus)")
    _preparing_options(added)
    added.add_argument("--seed", type=int, default=1234, help="of everything random")


def _prepare_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("corpus", type=Path, metavar="CORPUS", help="folder with metadata.csv and sounds")
    added.add_argument("--out", type=Path, help="folder of what is found (default: features/ in the corpus)")
    added.add_argument("--engine", choices=("processes", "ray", "none"), default="processes",
                       help="who works: processes of this machine, a Ray cluster, this process alone")  # fmt: skip
    added.add_argument("--address", help="of a Ray cluster, such as auto (default: one is started here)")
    _preparing_options(added)


def _preparing_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--workers", type=int, help="clips prepared at once (default: one a core)")
    added.add_argument("--transcriber", default="", help="recogniser for clips without text: wav2vec2 or whisper")


def _tune_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--minutes", type=_positive,
                       help="stop after so many in all (default: 30, unless steps are given)")  # fmt: skip
    added.add_argument("--steps", type=int, help="stop after so many steps in all (default: no limit)")
    added.add_argument("--run", help="training run (default: the last)")
    added.add_argument("--vocoder", choices=("hifigan", "waveglow"), default="hifigan", help="which to tune")
    added.add_argument("--start", metavar="FILE",
                       help="its weights, or for waveglow scratch (default: as before; at first the authors' universal "
                       "ones)")  # fmt: skip
    added.add_argument("--share", type=float, metavar="S",
                       help="of hifigan: how far to go from there to what was learned, 1 = all the way "
                       "(default: 0.3)")  # fmt: skip
    added.add_argument("--channels", type=int, metavar="N",
                       help="of waveglow from scratch: width of its layers (default: NVIDIA's 256)")  # fmt: skip
    added.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True,
                       help="go on where it stopped")  # fmt: skip
    added.add_argument("--seed", type=int, default=1234, help="of everything random")


def _import_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("source", help=f"{SOURCES}; or a zip that export made, for a VOICE that is not there yet")
    added.add_argument("--run", help="of a checkpoint: name of the run that it becomes (default: imported)")
    kinds = ("auto", "fakeyou-phonemes", "phonemes", "letters")
    added.add_argument("--trained-on", choices=kinds,
                       help="of a checkpoint: what its texts were in training; auto: its weights tell, phonemes: as "
                       "here (default: auto)")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; warnings, and errors of ours, are one line each.

    Returns
    -------
    int
        The exit code: 0 done, 1 an error that was explained, 130 interrupted.
    """
    options = build_parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.function(options)
    except (VoiceCloneError, OSError) as error:
        print(f"voiceclone: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("voiceclone: interrupted; what is done is kept, run the same again to go on", file=sys.stderr)
        return INTERRUPTED
    return 0


def _show_warning(warning: Warning | str, *_: Any, **__: Any) -> None:
    """Say it in one line, as errors are and above any bar; the line of code where it arose helps nobody here."""
    from tqdm import tqdm

    tqdm.write(f"voiceclone: {' '.join(str(warning).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
