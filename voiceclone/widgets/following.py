"""Following a training: what is known of it so far, how long it still takes, and what is due to be drawn."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ..colab import time_left
from ..log import Log
from .panel import Markup, bullets
from .players import picture, player

if TYPE_CHECKING:
    from pathlib import Path

    from IPython.display import DisplayHandle
    from matplotlib.figure import Figure

    from ..listen import Preview
    from ..train import Step

LINE_SECONDS = 1.0  # between updates of the line of figures
CURVE_SECONDS = 8.0  # between updates of the curves: drawing them takes a good part of a small step
MOST_POINTS = 1500  # of a curve: more cannot be seen, and cost time to draw


class Shown(Protocol):
    """Where a training is shown."""

    def show_line(self, text: str) -> None:
        """Where it stands, in a line."""

    def show_notes(self, notes: tuple[str, ...]) -> None:
        """What the user should know."""

    def show_figure(self, place: str, figure: Figure) -> None:
        """A figure, in the place of the one before."""

    def show_preview(self, preview: Preview) -> None:
        """What the voice says now."""


class Following:
    """Takes the records of `train` and draws what is due, so seldom that drawing does not hold up training.

    Parameters
    ----------
    shown
        Where it is drawn.
    run
        The run's folder: curves begin where the run began, also when this is not its first session.
    """

    def __init__(self, shown: Shown, run: Path) -> None:
        self.shown = shown
        self.earlier = Log(run / "log.jsonl").read()  # rows of other sessions
        self.steps: list[Step] = []
        self._drawn = {"line": 0.0, "curves": 0.0}  # when each was last drawn, s

    @property
    def last(self) -> Step | None:
        """The newest record."""
        return self.steps[-1] if self.steps else None

    def take(self, step: Step) -> None:
        """Note one step, and draw what is due."""
        preview = step.preview
        self.steps.append(step if preview is None else replace(step, preview=None))  # its sound is on the disk
        if step.notes:
            self.shown.show_notes(step.notes)
        now = time.monotonic()
        if now - self._drawn["line"] > LINE_SECONDS:
            self._drawn["line"] = now
            self.shown.show_line(self.summary())
        if preview is not None:
            self._draw_preview(preview)
        if now - self._drawn["curves"] > CURVE_SECONDS or preview is not None:
            self._drawn["curves"] = now
            self.draw_curves()

    def end(self) -> None:
        """Draw everything as it is now."""
        self.shown.show_line(self.summary())
        self.draw_curves()

    def draw_curves(self) -> None:
        """Draw losses and learning rate of the whole run."""
        from .. import plots

        if rows := [*self.earlier, *self.steps]:
            self.shown.show_figure("curves", plots.losses(thinned(rows)))

    def _draw_preview(self, preview: Preview) -> None:
        from .. import plots

        self.shown.show_figure("alignment", plots.alignment(preview.alignment, symbols=preview.symbols))
        if preview.mel_true is not None:
            mels = plots.mel_comparison(true=preview.mel_true, predicted=preview.mel_predicted)
            self.shown.show_figure("mels", mels)
        self.shown.show_preview(preview)

    def share(self) -> float | None:
        """Share of the time that is spent, 0 to 1; None when it is not known."""
        if self.last is None or self.last.seconds_left is None:
            return None
        return self.last.seconds / max(1e-9, self.last.seconds + self.last.seconds_left)

    def summary(self) -> str:
        """Where training stands, in a line."""
        step = self.last
        if step is None:
            return ""
        said = f"step {step.step}  epoch {step.epoch:.1f}  loss {step.loss:.3f}  mel {step.mel_loss:.3f}"
        left = f"  {time_left(step.seconds_left)}" if step.seconds_left else ""
        return f"{said}  attention {step.attention_loss:.3f}  {minutes(step.seconds)} min{left}"


class Printed:
    """Shows a training below its cell, each thing in the place of the one before, where nobody watches."""

    def __init__(self) -> None:
        self._places: dict[str, DisplayHandle] = {}

    def show_line(self, text: str) -> None:
        if text:
            self._put("line", Markup(f'<div style="font-family:monospace">{html.escape(text)}</div>', text))

    def show_notes(self, notes: tuple[str, ...]) -> None:
        self._put("notes", bullets(notes))

    def show_figure(self, place: str, figure: Figure) -> None:
        self._put(place, picture(figure))

    def show_preview(self, preview: Preview) -> None:
        label = f"after {preview.step} steps: {preview.text}" + (f" (heard: {preview.heard})" if preview.heard else "")
        self._put("sound", player(preview.wave, preview.sample_rate, label=label))

    def _put(self, place: str, content: object) -> None:
        from IPython.display import DisplayHandle

        if place in self._places:
            self._places[place].update(content)
        else:
            self._places[place] = DisplayHandle()
            self._places[place].display(content)


def thinned(rows: list[Any]) -> list[Any]:
    """At most about `MOST_POINTS` of a log's rows, evenly spaced; those with something validated all stay."""
    every = -(-len(rows) // MOST_POINTS)
    return [row for place, row in enumerate(rows) if place % every == 0 or _validated(row) or place == len(rows) - 1]


def _validated(row: Any) -> bool:
    return bool(row.get("validation") if isinstance(row, dict) else row.validation)


def minutes(seconds: float) -> str:
    """Seconds as minutes and seconds.

    >>> minutes(61)
    '1:01'
    """
    whole, rest = divmod(int(seconds), 60)
    return f"{whole}:{rest:02d}"


def previews_of(folder: Path) -> Iterable[Path]:
    """The sounds of a run's previews, oldest first."""
    arrays = sorted((folder / "previews").glob("step-*.npz"))  # written after their sounds
    return [path.with_suffix(".wav") for path in arrays]
