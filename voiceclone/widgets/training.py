"""Watching training: the loop over its steps, with curves, alignment and a spoken sample that update in place."""

from __future__ import annotations

import html
import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from .panel import Markup, bullets, table
from .players import picture, play, player

if TYPE_CHECKING:
    from pathlib import Path

    from IPython.display import DisplayHandle
    from matplotlib.figure import Figure

    from ..listen import Preview
    from ..train import Step
    from ..voice import Voice

LINE_SECONDS = 1.0  # between updates of the line of figures
CURVE_SECONDS = 8.0  # between updates of the curves: drawing them takes a good part of a small step
MOST_PREVIEWS = 4  # that are heard beside each other


class TrainingView:
    """Consumes the records of `train` and shows them as they come.

    The view ends when training ends or the kernel is interrupted (the notebook's stop button). Interrupted, training
    closes properly: it writes its checkpoint, and running it again goes on from there. There is no button of our own,
    since most kernels hear a widget only once the cell is over.

    Parameters
    ----------
    log
        The run's ``log.jsonl``: the curves then begin where the run began, also when this is not its first session.

    >>> view = TrainingView(voice.run_dir("main") / "log.jsonl")                     # doctest: +SKIP
    >>> view.watch(train(voice, TrainConfig(minutes=5)))                             # doctest: +SKIP
    """

    def __init__(self, log: Path | None = None) -> None:
        from ..webpage import read_log

        self.earlier = read_log(log) if log and log.exists() else []  # rows of sessions before this one
        self.steps: list[Step] = []
        self.preview: Preview | None = None
        self.stopped = False  # by a person, not by the training's own end
        self._shown: dict[str, DisplayHandle] = {}  # by the name of a place on the page
        self._drawn = {"line": 0.0, "curves": 0.0}  # when each was last drawn, s

    @property
    def last(self) -> Step | None:
        """The newest record; None when there was nothing left to train."""
        return self.steps[-1] if self.steps else None

    def watch(self, steps: Iterable[Step]) -> None:
        """Go through all steps of a training, showing them.

        Parameters
        ----------
        steps
            What `train` returns.
        """
        try:
            for step in steps:
                self.take(step)
        except KeyboardInterrupt:
            self.stopped = True
        finally:
            if isinstance(steps, Generator):
                steps.close()
        self._draw_line()
        self._draw_curves()

    def take(self, step: Step) -> None:
        """Note one step, and draw what is due."""
        self.steps.append(step)
        if step.notes:
            self._put("notes", bullets(step.notes))
        now = time.monotonic()
        if now - self._drawn["line"] > LINE_SECONDS:
            self._drawn["line"] = now
            self._draw_line()
        if step.preview is not None:
            self.preview = step.preview
            self._draw_preview(step.preview)
        if now - self._drawn["curves"] > CURVE_SECONDS or step.preview is not None:
            self._drawn["curves"] = now
            self._draw_curves()

    # Drawing ------------------------------------------------------------------------------------------------------

    def _draw_line(self) -> None:
        text = self.summary()
        self._put("line", Markup(f'<div style="font-family:monospace">{html.escape(text)}</div>', text))

    def _draw_curves(self) -> None:
        from .. import plots

        if rows := [*self.earlier, *self.steps]:
            self._put_figure("curves", plots.losses(rows))

    def _draw_preview(self, preview: Preview) -> None:
        from .. import plots

        self._put_figure("alignment", plots.alignment(preview.alignment, symbols=preview.symbols))
        if preview.mel_true is not None:
            self._put_figure("mels", plots.mel_comparison(true=preview.mel_true, predicted=preview.mel_predicted))
        label = f"after {preview.step} steps: {preview.text}" + (f" (heard: {preview.heard})" if preview.heard else "")
        self._put("sound", player(preview.wave, preview.sample_rate, label=label))

    def _put_figure(self, place: str, figure: Figure) -> None:
        self._put(place, picture(figure))

    def _put(self, place: str, content: object) -> None:
        """Show something, in place of what that place showed before."""
        from IPython.display import DisplayHandle

        if place in self._shown:
            self._shown[place].update(content)
        else:
            self._shown[place] = DisplayHandle()
            self._shown[place].display(content)

    def summary(self) -> str:
        """Where training stands, in a line."""
        if self.last is None:
            before = f" of {self.earlier[-1]['step']} steps" if self.earlier else ""
            return f"Nothing left to train: this run has had its time{before}. More minutes, or another run, train on."
        step = self.last
        minutes, seconds = divmod(int(step.seconds), 60)
        said = f"step {step.step}  epoch {step.epoch:.1f}  loss {step.loss:.3f}  mel {step.mel_loss:.3f}"
        end = "  stopped: run the cell again to go on" if self.stopped else ""
        return f"{said}  attention {step.attention_loss:.3f}  {minutes}:{seconds:02d} min{end}"

    def __repr__(self) -> str:
        return self.summary()


def heard_learning(voice: Voice, run: str) -> Markup:
    """The previews that a training left, from its first to its last: a few, evenly spaced."""
    import numpy as np

    previews = sorted((voice.run_dir(run) / "previews").glob("step-*.wav"))
    chosen = sorted({round(place) for place in np.linspace(0, len(previews) - 1, MOST_PREVIEWS)}) if previews else []
    rows = []
    for path in (previews[place] for place in chosen):
        with np.load(path.with_suffix(".npz")) as arrays:
            rows.append((int(path.stem.removeprefix("step-")), play(path), str(arrays["heard"])))
    return table(rows, heading=("step", "sound", "a recogniser heard"))
