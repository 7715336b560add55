"""Hearing the clone: what it says, and how checkpoints and vocoders compare."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .panel import Markup, Panel, button, table
from .players import picture, player

if TYPE_CHECKING:
    import ipywidgets

    from ..synthesize import Synthesizer, Utterance
    from ..voice import Voice

COMPARED_VOCODERS = ("griffin_lim", "hifigan")


def said(utterance: Utterance, *, label: str = "") -> Markup:
    """An utterance as a player, with what was found wrong with it, if anything.

    Parameters
    ----------
    utterance
        What `Synthesizer.say` returned.
    label
        Words above the player; the text that was said when empty.
    """
    sound = player(utterance.wave, utterance.sample_rate, label=label or utterance.text)
    verdict = "; ".join(utterance.problems) or "no problem found"
    line = f"{utterance.duration:.1f} s of speech in {utterance.seconds_spent:.1f} s: {verdict}"
    return Markup(f"{sound._repr_html_()}<div>{html.escape(line)}</div>", f"{sound!r} {line}")


def comparison(utterances: Mapping[str, Utterance]) -> Markup:
    """Utterances under each other, each with its name, its player and its problems."""
    return table([[name, said(utterance)] for name, utterance in utterances.items()], heading=("", "sound"))


def read_aloud(synthesizer: Synthesizer, texts: Iterable[str], *, seed: int = 0) -> Markup:
    """Say several texts, and keep each as ``samples/sentence-<n>.wav``."""
    from ..audio import save

    utterances = {}
    for number, text in enumerate(texts, 1):
        utterance = utterances[str(number)] = synthesizer.say(text, seed=seed)
        save(synthesizer.voice.samples_dir / f"sentence-{number}.wav", utterance.wave, utterance.sample_rate)
    return comparison(utterances)


def compare_vocoders(voice: Voice, text: str, *, run: str, checkpoint: str, seed: int = 0) -> Markup:
    """One text, painted once and made audible by each vocoder in turn."""
    from ..synthesize import Synthesizer

    utterances = {}
    for name in COMPARED_VOCODERS:
        synthesizer = Synthesizer.open(voice, run=run, checkpoint=checkpoint, vocoder=name)
        utterances[name] = synthesizer.say(text, seed=seed)
    return comparison(utterances)


def compare_checkpoints(voice: Voice, text: str, *, run: str, vocoder: str, seed: int = 0) -> Markup:
    """One text said by each checkpoint that a training has kept: the best, and the newest."""
    from ..synthesize import Synthesizer

    utterances = {}
    for path in sorted((voice.run_dir(run) / "checkpoints").glob("[!.]*.pt")):
        synthesizer = Synthesizer.open(voice, run=run, checkpoint=path.stem, vocoder=vocoder)
        utterances[path.stem] = synthesizer.say(text, seed=seed)
    return comparison(utterances)


class SpeakingBox(Panel):
    """A line to type into and a button that says it.

    Parameters
    ----------
    synthesizer
        The voice that speaks.
    text
        What stands in the line at first.
    """

    def __init__(self, synthesizer: Synthesizer, *, text: str = "") -> None:
        self.synthesizer, self.first_text = synthesizer, text
        self.utterance: Utterance | None = None

    def html(self) -> str:
        return f"<i>{html.escape(self.text())}</i>"

    def text(self) -> str:
        return "Type a sentence here and press Speak (needs a live kernel)."

    def build(self) -> ipywidgets.Widget:
        import ipywidgets

        line = ipywidgets.Text(self.first_text, layout=ipywidgets.Layout(width="40em", max_width="100%"))
        seed = ipywidgets.BoundedIntText(0, min=0, max=9999, description="seed")
        view = ipywidgets.HTML()

        def speak() -> None:
            from .. import plots

            with self.working():
                self.utterance = self.synthesizer.say(line.value, seed=seed.value)
                figure = picture(plots.alignment(self.utterance.alignment, symbols=self.utterance.symbols))
                view.value = said(self.utterance)._repr_html_() + figure._repr_html_()
                self.say("Another seed says it a little differently.")

        row = ipywidgets.HBox([line, seed, button("Speak", speak, icon="volume-up")])
        return ipywidgets.VBox([row, self.message, view])
