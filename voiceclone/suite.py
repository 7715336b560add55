"""Runs the notebooks in order, without a browser, and writes the report.

Papermill executes; here it is made to tell how far it is, to stop when asked, and to say in one sentence what
failed. The executed notebooks, with their figures and sounds, go into the voice folder.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UnavailableError, VoiceCloneError

if TYPE_CHECKING:
    from .papermill_engine import SuiteClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
VOICE_PARAMETER = "voice_path"  # what every notebook calls the voice folder
KERNEL = "python3"  # of the interpreter that runs this
STOP_SECONDS = 30.0  # that a stopped cell gets to leave its files whole, before its kernel is ended
POLL_SECONDS = 0.5  # how often Ctrl-C is looked for while a cell runs (Windows does not interrupt a wait)


@dataclass(frozen=True)
class Progress:
    """How far the series is. Sent when a cell starts and when it shows something."""

    notebook: str  # "05_train"
    number: int  # of the notebook in this run, from 1
    notebooks: int
    cell: int  # code cells begun in this notebook, from 1
    cells: int
    said: str = ""  # last line of what the cell shows: how training goes, for example
    path: Path | None = None  # of the executed notebook, once it is whole


def series(*, first: str = "00", last: str = "99", folder: Path = NOTEBOOKS) -> tuple[Path, ...]:
    """The notebooks from one number to another, in order.

    Parameters
    ----------
    first, last : str
        Numbers as in the file names: "00" to "07".
    folder : Path
        Where the notebooks lie.
    """
    known = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not known:
        raise UnavailableError(
            f"There are no notebooks in {folder}. They belong to the repository, not to the installed package: "
            "clone the repository and install it from there (pip install --editable .)."
        )
    chosen = tuple(path for path in known if first.zfill(2) <= path.name[:2] <= last.zfill(2))
    if not chosen:
        raise VoiceCloneError(f"No notebook lies between {first} and {last}; there are {_names(known)}.")
    return chosen


def run(
    voice: str | Path,
    *,
    first: str = "00",
    last: str = "07",
    parameters: Mapping[str, Any] | None = None,
    folder: Path = NOTEBOOKS,
) -> Iterator[Progress]:
    """Execute the notebooks on a voice, then write its report.

    Ctrl-C, or closing the iterator, interrupts the running cell, which leaves every file whole; run again to go
    on, as stages skip what is done.

    Parameters
    ----------
    voice : str or Path
        The voice folder. It need not exist if notebook 00 is among those that run.
    first, last : str
        Numbers of the first and the last notebook.
    parameters : mapping of str
        Values for the notebooks' parameters; each notebook takes those that it has.
    folder : Path
        Where the notebooks lie.

    Yields
    ------
    Progress
        When a cell starts, when it shows something, and when a notebook is done.

    Raises
    ------
    VoiceCloneError
        If a parameter is in none of the notebooks, or a cell fails: with the notebook, the cell and the reason.
    """
    from .voice import Voice
    from .webpage import write_report

    voice = Path(voice).absolute()
    chosen = series(first=first, last=last, folder=folder)
    if first.zfill(2) > "00":
        Voice.open(voice)
    wanted = _parameters_of(chosen, {VOICE_PARAMETER: str(voice), **(parameters or {})})
    (voice / "notebooks").mkdir(parents=True, exist_ok=True)
    for number, (path, values) in enumerate(wanted.items(), start=1):
        yield from _Execution(path, voice / "notebooks" / path.name, values, number, len(chosen)).follow()
    if (voice / "voice.json").exists():
        write_report(Voice.open(voice))


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(path.stem for path in paths)


def _parameters_of(chosen: tuple[Path, ...], values: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """The values that each notebook takes, by its parameters cell."""
    from papermill import inspect_notebook

    known = {path: set(inspect_notebook(str(path))) for path in chosen}
    everything = set().union(*known.values())
    if unknown := sorted(set(values) - everything - {VOICE_PARAMETER}):
        raise VoiceCloneError(
            f"No notebook of {_names(chosen)} has a parameter {', '.join(unknown)}; "
            f"they have {', '.join(sorted(everything)) or 'none'}."
        )
    return {path: {name: value for name, value in values.items() if name in known[path]} for path in chosen}


class _Execution:
    """One notebook, executed on a thread of its own, so that the caller hears of progress and can interrupt."""

    def __init__(
        self, source: Path, target: Path, values: dict[str, Any], number: int, notebooks: int
    ) -> None:
        self.source, self.target, self.values = source, target, values
        self.number, self.notebooks = number, notebooks
        self.cell = self.cells = 0
        self.stopping = threading.Event()
        self.client: SuiteClient | None = None
        self._news: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()  # None: the notebook is over

    def follow(self) -> Iterator[Progress]:
        """Yield news until the notebook is done; however this is left, no kernel stays behind."""
        with ThreadPoolExecutor(1, thread_name_prefix=self.source.stem) as pool:
            work = pool.submit(self._work)
            work.add_done_callback(lambda _: self._news.put(None))
            try:
                while (news := self._next()) is not None:
                    yield news
                self._raise(work)
            finally:
                self._end(work)
        yield self.progress(path=self.target)

    def progress(self, *, said: str = "", path: Path | None = None) -> Progress:
        """How far this notebook is."""
        return Progress(self.source.stem, self.number, self.notebooks, self.cell, self.cells, said, path)

    def begin_cell(self, cells: int) -> None:
        """Take note of the next of so many code cells. The client calls this, on the notebook's thread."""
        self.cell, self.cells = self.cell + 1, cells
        self._news.put(self.progress())

    def show(self, said: str) -> None:
        """Take note of what the running cell shows. The client calls this, on the notebook's thread."""
        self._news.put(self.progress(said=said))

    def _next(self) -> Progress | None:
        while True:
            try:
                return self._news.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue

    def _work(self) -> None:
        from papermill import execute_notebook

        from .papermill_engine import ENGINE, register

        register()
        execute_notebook(
            self.source, self.target, self.values, engine_name=ENGINE, kernel_name=KERNEL, progress_bar=False,
            execution=self,
        )  # fmt: skip

    def _end(self, work: Future) -> None:
        """Interrupt the cell that runs, if one does, and see to it that its kernel goes."""
        self.stopping.set()
        for stop in ("interrupt", "kill"):
            if not work.done() and self.client is not None:
                getattr(self.client, stop)()
                wait([work], timeout=STOP_SECONDS)

    def _raise(self, work: Future) -> None:
        """Say in one sentence why the notebook failed, if it did."""
        from jupyter_client.kernelspec import NoSuchKernel
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

        again = f"The executed notebook is {self.target}; run again from there with --from {self.source.name[:2]}."
        try:
            work.result()
        except PapermillExecutionError as error:
            reason = f"{error.ename}: {error.evalue}".strip().splitlines()[-1].rstrip(".") + "."
            raise VoiceCloneError(
                f"Notebook {self.source.stem} stopped in cell {error.exec_count}: {reason} {again}"
            ) from error
        except DeadKernelError as error:
            raise VoiceCloneError(
                f"Notebook {self.source.stem}, cell {self.cell}: its Python died, mostly for want of memory. {again}"
            ) from error
        except NoSuchKernel as error:
            raise UnavailableError(
                f"Jupyter knows no kernel {KERNEL!r}. Install it: {sys.executable} -m pip install ipykernel"
            ) from error
