"""Tuning a vocoder to the voice in a cell, and what that changed: heard and measured side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ..vocoders.tuned import TUNED, tuned_vocoder
from .following import LINE_SECONDS, Printed, minutes
from .panel import Markup, Progress, plain_warnings, table
from .players import player

if TYPE_CHECKING:
    from ..vocoders.hifigan_training import TuneConfig, TuneStep
    from ..voice import Voice

_MEASURES = {  # of `Compared.as_dict` -> what they are called
    "mel_error": "error of the spectrogram (0 is the recording itself)",
    "word_error_rate": "word error rate (0 is best)",
    "likeness": "likeness (1 is the same voice)",
    "opinion_score": "opinion score, predicted (1 to 5)",
}


def tune_vocoder(voice: Voice, config: TuneConfig) -> None:
    """Tune HiFi-GAN to a trained voice and show how far it is; an interrupt ends it properly.

    Parameters
    ----------
    voice
        With a trained run.
    config
        How long, and to which run.
    """
    from ..vocoders.hifigan_training import tune

    shown, last, due = Printed(), None, 0.0
    shown.show_line("Drawing the clips as the clone would.")
    with plain_warnings(), closing(tune(voice, config)) as steps:
        try:
            for last in steps:
                if time.monotonic() >= due:
                    due = time.monotonic() + LINE_SECONDS
                    shown.show_line(_line(last))
        except KeyboardInterrupt:
            shown.show_line("Stopped and saved: run the cell again to go on.")
            return
    shown.show_line(_line(last) if last else "Nothing left to tune: it has had its time. More minutes tune on.")


def _line(step: TuneStep) -> str:
    """Where tuning stands."""
    learned = step.learned
    said = f"step {step.step}  pass {step.epoch:.1f}  mel {learned.mel_loss:.3f}  judges {learned.judges:.0%}"
    return f"{said}  {minutes(step.seconds)} min"


def before_and_after(
    voice: Voice,
    text: str,
    *,
    run: str,
    checkpoint: str = "best",
    sentences: Sequence[str],
    engine: str = "auto",
    seed: int = 0,
) -> Markup:
    """One text by the universal HiFi-GAN and by the one that was tuned to the voice, with what is measured of each.

    Parameters
    ----------
    voice, run, checkpoint
        Who speaks.
    text
        What is heard.
    sentences
        What is measured.
    engine
        Who listens when measuring.
    seed
        Of the take that is heard.
    """
    from ..synthesize import Synthesizer
    from ..vocoders.comparison import compare_vocoders

    if not tuned_vocoder(voice, run):
        said = "No vocoder was tuned to this training yet: give tune_minutes and run this notebook again."
        return Markup(f"<i>{said}</i>", said)
    with plain_warnings():
        measured = compare_vocoders(voice, run=run, checkpoint=checkpoint, sentences=sentences, engine=engine,
                                    progress=Progress("sentences said"))  # fmt: skip
    voices = (Synthesizer.open(voice, run=run, checkpoint=checkpoint, vocoder=name) for name in ("hifigan", TUNED))
    spoken = [one.say(text, seed=seed) for one in voices]
    rows = [["", *(player(one.wave, one.sample_rate) for one in spoken)]]
    figures = [one.as_dict() for one in measured]
    rows += [[label, *(f"{one[name]:.3f}" for one in figures)] for name, label in _MEASURES.items()]
    return table(rows, heading=("", "before: the universal one", "after: tuned to the voice"))
