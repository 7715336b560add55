"""A run's folder: the configuration, a log of one line a step, checkpoints to go on from, and previews.

Everything is written whole or not at all; where the folder is on a drive, `Keeper` brings it there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .board import Board
from .drive import Keeper
from .errors import TrainingError
from .files import atomic_write
from .log import Log
from .tacotron2.checkpoint import Checkpoint, newest_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from .listen import Preview
    from .train import Step

KEPT_CHECKPOINTS = 2  # of those to resume from; the best is kept besides


class Run:
    """Where one session of training writes.

    Parameters
    ----------
    folder : Path
        The run's folder in the voice folder.
    """

    def __init__(self, folder: Path) -> None:
        self.keeper = Keeper(folder)
        self.folder = self.keeper.work
        self.checkpoints = self.folder / "checkpoints"
        self._log = Log(self.folder / "log.jsonl")
        self.board: Board | None = None

    def fetch(self) -> None:
        """Bring here what the run has already."""
        self.keeper.fetch()

    def check_nothing_is_lost(self, *, torn: bool = False) -> None:
        """Refuse to begin anew where the best checkpoint has nothing beside it to go on from, and would be deleted.

        Parameters
        ----------
        torn : bool
            The checkpoints to go on from are there but cannot be read.

        Raises
        ------
        TrainingError
            If there is such a best checkpoint, as an import or a zip brings it.
        """
        folders = {self.checkpoints, self.keeper.lasting / "checkpoints"}
        best = next((path for folder in folders if (path := folder / "best.pt").exists()), None)
        if best and (torn or not any(path for folder in folders for path in folder.glob("step-*.pt"))):
            raise TrainingError(
                f"{best} holds a voice, but beside it is no whole checkpoint to go on from (an import and a zip bring "
                "none), and to begin anew would delete it. Give the training another name, such as run='more', and let "
                f"it start there: start={str(best)!r}."
            )

    def forget(self) -> None:
        """Delete what an earlier training of this name has left, wherever it is."""
        self.keeper.forget("checkpoints/*.pt", "previews/step-*", "tensorboard/*")

    @property
    def has_best(self) -> bool:
        """Whether there is a best checkpoint."""
        return (self.checkpoints / "best.pt").exists()

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """The newest whole checkpoint to go on from; None if there is none."""
        return newest_checkpoint(self.checkpoints)

    def go_on(self, step: int, *, tensorboard: bool) -> tuple[str, ...]:
        """Let the logs go on after a step; returns what the user should know."""
        self._log.cut(step)
        if not tensorboard:
            return ()
        self.board, note = Board.open(self.folder / "tensorboard", after=step)
        return (note,) if note else ()

    def save(self, checkpoint: Checkpoint, *, best: bool) -> Path:
        """Write a checkpoint to go on from, and if it is the best that too, without what only training needs.

        The best comes second: alone it would be taken for one that was not trained here.
        """
        path = save_checkpoint(self.checkpoints / f"step-{checkpoint.step:06d}.pt", checkpoint)
        self.keeper.keep(path)
        if best:
            alone = Checkpoint(checkpoint.model, checkpoint.step, checkpoint.speaker, measures=checkpoint.measures)
            self.keeper.keep(save_checkpoint(self.checkpoints / "best.pt", alone))
        self.keeper.drop(*sorted(self.checkpoints.glob("step-*.pt"))[:-KEPT_CHECKPOINTS])
        return path

    def save_preview(self, preview: Preview) -> None:
        """Write what was heard, and what is shown with it."""
        folder = self.folder / "previews"
        preview.save(folder)
        self.keeper.keep(*folder.glob(f"step-{preview.step:06d}.*"))

    def log(self, step: Step) -> None:
        """Add a line to the log."""
        self._log.append(step.as_dict())
        if self.board:
            self.board.add(step)

    def write_config(self, content: dict[str, Any]) -> None:
        """Write ``config.json``, and have it and the logs kept as they are now."""
        with atomic_write(self.folder / "config.json", "w") as file:
            json.dump(content, file, indent=1)
        tables = [self._log.path, self.folder / "split.json", self.folder / "config.json"]
        self.keeper.keep(*filter(Path.exists, tables), *self.folder.glob("tensorboard/*"))

    def close(self) -> None:
        """Wait until all is kept."""
        if self.board:
            self.board.close()
            self.keeper.keep(*self.folder.glob("tensorboard/*"))
        self.keeper.close()
