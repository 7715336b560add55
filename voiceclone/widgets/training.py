"""Watching training: curves, alignment and spoken samples as they come, and buttons to stop and to go on.

Training runs on a thread of its own, so that the buttons work everywhere: some kernels (Colab's) hear a widget only
between cells, and a cell that trained would be deaf until its end. Where nobody watches (papermill) it runs in the
cell, to its end, so that the cells after it find a trained voice.
"""

from __future__ import annotations

import atexit
import html
import threading
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..colab import cost
from ..drive import working_folder
from ..errors import VoiceCloneError
from .following import Following, Printed, previews_of
from .panel import Markup, headless, table
from .players import image, picture_of, play, sound_file
from .views import LivePanel

if TYPE_CHECKING:
    from pathlib import Path

    from IPython.display import DisplayHandle
    from matplotlib.figure import Figure

    from ..listen import Preview
    from ..train import Step, TrainConfig
    from ..voice import Voice

MOST_PREVIEWS = 4  # that are heard beside each other
SAVING_SECONDS = 4.0  # that a kernel which is shut down waits for the checkpoint; Jupyter ends it after five

_SAID = {  # state -> what a person reads
    "new": "Not begun.",
    "preparing": "Preparing: finding when each sound is spoken, loading the network.",
    "training": "Training.",
    "stopping": "Stopping: this step is finished and saved.",
    "stopped": "Stopped and saved. Go on whenever you like, also after a restart.",
    "done": "Done: this run has had its time or its steps.",
    "failed": "Training stopped because of a problem.",
}


class TrainingView(LivePanel):
    """Trains a voice and shows how it learns.

    Parameters
    ----------
    voice
        With clips that are accepted and cleaned.
    config
        How to train it.
    processes
        That train together, see `voiceclone.launch.train_by`.

    >>> view = TrainingView(voice, TrainConfig(minutes=5))                           # doctest: +SKIP
    >>> view.train()                                                                 # doctest: +SKIP
    """

    script = "training.js"

    def __init__(self, voice: Voice, config: TrainConfig, *, processes: int = 1) -> None:
        super().__init__()
        self.voice, self.config, self.processes = voice, config, processes
        self.condition = "new"
        self.problem = ""
        self.figures: dict[str, bytes] = {}  # PNG, by place: the newest of each
        self._notes: tuple[str, ...] = ()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.running = False  # whether the thread trains right now
        self._handle: DisplayHandle | None = None
        self.following = Following(self, self.run)

    @property
    def run(self) -> Path:
        """The folder of this training."""
        return self.voice.run_dir(self.config.run)

    @property
    def written(self) -> Path:
        """Where the training writes: on a drive a preview arrives later."""
        return working_folder(self.run)

    @property
    def last(self) -> Step | None:
        """The newest record; None when there was nothing left to train."""
        return self.following.last

    # Training -----------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Show the view and train: on a thread where somebody can press its buttons, else here until it ends."""
        if headless():
            self.watch(self._records(), Printed())
            return
        from IPython.display import DisplayHandle

        self._handle = DisplayHandle()
        self._handle.display(self)
        self.resume()

    def watch(self, records: Iterable[Step], shown: Printed | None = None) -> None:
        """Go through all records of a training here; an interrupt ends it properly."""
        if shown is not None:
            self.following = Following(shown, self.run)
        try:
            self._follow(records)
        except KeyboardInterrupt:
            self.condition = "stopped"
        self.following.end()

    def resume(self) -> None:
        """Begin to train, or go on, on a thread of its own."""
        with self.lock:
            if self.running:
                return
            self._stop.clear()
            self.running, self.problem = True, ""
            self._thread = threading.Thread(target=self._work, name="training", daemon=True)
            atexit.register(self._save)  # a kernel that is shut down keeps what was learned
            self._thread.start()

    def stop(self) -> None:
        """End training after the step that it is in; its checkpoint is written."""
        with self.lock:
            if self.running:
                self._stop.set()
                self._become("stopping")

    def _save(self) -> None:
        """Let the thread end as `stop` does, while Python ends."""
        self._stop.set()
        self._thread.join(SAVING_SECONDS)

    def _records(self) -> Iterable[Step]:
        from ..launch import train_by

        return train_by(self.voice, self.config, processes=self.processes)

    def _work(self) -> None:
        """What the thread does."""
        self._become("preparing")
        try:
            self.following = Following(self, self.run)
            self._follow(self._records())
            self.following.draw_curves()
        except VoiceCloneError as error:
            self.problem = str(error)
        except Exception as error:  # noqa: BLE001 - the edge: a thread's error would reach nobody
            self.problem = f"{type(error).__name__}: {error}"
        self.config = replace(self.config, resume=True)  # pressing the button goes on, whatever began the run
        atexit.unregister(self._save)
        with self.lock:
            self.running = False
            self._become("failed" if self.problem else "stopped" if self._stop.is_set() else "done")
        if self._handle is not None:
            self._handle.update(self)  # the notebook keeps the last figures, for when its kernel is gone

    def _follow(self, records: Iterable[Step]) -> None:
        try:
            for step in records:
                if self.condition in ("new", "preparing"):
                    self.condition = "training"
                self.following.take(step)
                if self._stop.is_set():
                    break
        finally:
            if isinstance(records, Generator):
                records.close()  # it writes its checkpoint
        self.condition = "stopped" if self._stop.is_set() else "done"

    # The live view ------------------------------------------------------------------------------------------------

    def show_line(self, text: str) -> None:
        self.tell("status", **self._status())

    def show_notes(self, notes: tuple[str, ...]) -> None:
        self._notes = notes
        self.tell("status", **self._status())

    def show_figure(self, place: str, figure: Figure) -> None:
        self.figures[place] = image(figure)
        self.tell("figure", place=place, buffers=[self.figures[place]])

    def show_preview(self, preview: Preview) -> None:
        self.tell("preview", preview={"step": preview.step, "heard": preview.heard, "text": preview.text})

    def state(self) -> dict[str, Any]:
        return {"status": self._status()}

    def on_hello(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A page that is drawn, perhaps anew: everything as it is now."""
        known = {"places": list(self.figures), "previews": _previews(self.written)}
        return {"status": self._status(), **known, "buffers": list(self.figures.values())}

    def on_stop(self, message: Mapping[str, Any]) -> None:
        self.stop()

    def on_resume(self, message: Mapping[str, Any]) -> None:
        self.resume()

    def on_sound(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """What the voice said after a step."""
        return {"buffers": [sound_file(self.written / "previews" / f"step-{int(message['step']):06d}.wav")]}

    def _become(self, condition: str) -> None:
        self.condition = condition
        self.tell("status", **self._status())

    def _status(self) -> dict[str, Any]:
        step = self.last
        left = step.seconds_left if step and self.condition == "training" else None
        names = ("step", "epoch", "loss", "mel_loss", "attention_loss", "learning_rate", "seconds")
        return {
            "condition": self.condition,
            "said": self.problem or _SAID[self.condition],
            "running": self.running,
            "share": self.following.share(),
            "left": left,
            "cost": cost(left) if left else "",
            "notes": list(self._notes),
            "numbers": {name: getattr(step, name) for name in names} if step else {},
        }

    # What a saved notebook shows ----------------------------------------------------------------------------------

    def text(self) -> str:
        if self.last is None:
            if self.condition == "done":
                earlier = self.following.earlier
                before = f" of {earlier[-1]['step']} steps" if earlier else ""
                spent = f"Nothing left to train: this run has had its time{before}."
                return f"{spent} More minutes, or another run, train on."
            return self.problem or _SAID[self.condition]
        end = {"stopped": "  stopped: run the cell again to go on", "training": "  and going on"}
        return self.following.summary() + end.get(self.condition, "")

    def html(self) -> str:
        figures = "".join(picture_of(png)._repr_html_() for png in self.figures.values())
        return f"<p>{html.escape(self.text())}</p>{figures}"


def heard_learning(voice: Voice, run: str) -> Markup:
    """The previews that a training left, from its first to its last: a few, evenly spaced."""
    import numpy as np

    previews = list(previews_of(voice.run_dir(run)))
    chosen = sorted({round(place) for place in np.linspace(0, len(previews) - 1, MOST_PREVIEWS)}) if previews else []
    rows = [(_step_of(previews[place]), play(previews[place]), _heard(previews[place])) for place in chosen]
    return table(rows, heading=("step", "sound", "a recogniser heard"))


def _previews(run: Path) -> list[dict[str, Any]]:
    return [{"step": _step_of(path), "heard": _heard(path)} for path in previews_of(run)]


def _step_of(preview: Path) -> int:
    return int(preview.stem.removeprefix("step-"))


def _heard(preview: Path) -> str:
    import numpy as np

    with np.load(preview.with_suffix(".npz")) as arrays:
        return str(arrays["heard"])
