"""Watching training: the loop over its steps, with curves, alignment and a spoken sample that update in place."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from .panel import Markup, button, headless
from .players import picture, player

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..train import Preview, Step

LINE_SECONDS = 1.0  # between updates of the line of figures
CURVE_SECONDS = 8.0  # between updates of the curves: drawing them takes a good part of a small step


class TrainingView:
    """Consumes the records of `train` and shows them as they come.

    The view ends when training ends, when Stop is pressed, or when the kernel is interrupted; in the last two cases
    the training closes properly (it writes its checkpoint), and running it again goes on from there.

    >>> view = TrainingView()
    >>> view.watch(train(voice, TrainConfig(minutes=5)))         # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.preview: Preview | None = None
        self.stopped = False  # by a person, not by the training's own end
        self._stop = threading.Event()
        self._shown: dict[str, object] = {}  # name of a place on the page -> its display handle
        self._drawn = {"line": 0.0, "curves": 0.0}  # when each was last drawn, s

    @property
    def last(self) -> Step | None:
        """The newest record; None when there was nothing left to train."""
        return self.steps[-1] if self.steps else None

    def stop(self) -> None:
        """Let training end after the step that it is in; safe to call from another thread."""
        self._stop.set()

    def watch(self, steps: Iterable[Step]) -> TrainingView:
        """Go through all steps of a training, showing them.

        Parameters
        ----------
        steps
            What `train` returns.

        Returns
        -------
        TrainingView
            This view, whose text says where training stands.
        """
        self._show_stop_button()
        try:
            for step in steps:
                self.take(step)
                if self._stop.is_set():
                    self.stopped = True
                    break
        except KeyboardInterrupt:
            self.stopped = True
        finally:
            if isinstance(steps, Generator):
                steps.close()
        self._draw_line()
        self._draw_curves()
        return self

    def take(self, step: Step) -> None:
        """Note one step, and draw what is due."""
        self.steps.append(step)
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

    def _show_stop_button(self) -> None:
        # The kernels of JupyterLab 4.4 and later hear the button while a cell runs. Others, Colab's among them, hear
        # it only afterwards; there the notebook's own interrupt button does the same.
        if not headless():
            self._put("button", button("Stop and keep what is learned", self.stop, icon="stop"))

    def _draw_line(self) -> None:
        text = self.summary()
        self._put("line", Markup(f'<div style="font-family:monospace">{html.escape(text)}</div>', text))

    def _draw_curves(self) -> None:
        from .. import plots

        if self.steps:
            self._put_figure("curves", plots.losses(self.steps))

    def _draw_preview(self, preview: Preview) -> None:
        from .. import plots

        self._put_figure("alignment", plots.alignment(preview.alignment))
        mel_true = preview.mel_true if preview.mel_true is not None else preview.mel_predicted
        self._put_figure("mels", plots.mel_comparison(mel_true, preview.mel_predicted))
        label = f"step {preview.step}: {preview.text}"
        self._put("sound", player(preview.wave, preview.sample_rate, label=label))

    def _put_figure(self, place: str, figure: Figure) -> None:
        self._put(place, picture(figure))

    def _put(self, place: str, content: object) -> None:
        """Show something, in place of what that place showed before."""
        from IPython.display import display

        if place in self._shown:
            self._shown[place].update(content)
        else:
            self._shown[place] = display(content, display_id=True)

    def summary(self) -> str:
        """Where training stands, in a line."""
        if self.last is None:
            return "Nothing left to train: this run has had its steps."
        step = self.last
        minutes, seconds = divmod(int(step.seconds), 60)
        said = f"step {step.step}  epoch {step.epoch}  loss {step.loss:.3f}  mel {step.mel_loss:.3f}"
        end = "  stopped: run the cell again to go on" if self.stopped else ""
        return f"{said}  attention {step.attention_loss:.3f}  {minutes}:{seconds:02d} min{end}"

    def __repr__(self) -> str:
        return self.summary()
