"""The notebooks as an application: their words and views as web pages, without a cell, by Voilà.

``python -m voiceclone.app`` serves them on this machine. The pages are the notebooks themselves: a copy of each is
given one cell before all others, which calls `begin`, and loses its badge for Colab.
"""

from __future__ import annotations

import html
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import UnavailableError

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
FIRST = "from voiceclone import app; app.begin()"
BADGE = "[![Open in Colab]"
LATER = "This part comes when the steps before it are done; then load this page again."


def begin() -> None:
    """Make this kernel a page's: it works in the notebooks' folder, and says what is missing instead of a traceback."""
    from IPython import get_ipython

    os.chdir(NOTEBOOKS)
    get_ipython().set_custom_exc((Exception,), _said)


def _said(shell: Any, kind: type, error: Exception, trace: Any, tb_offset: int | None = None) -> None:
    """Show what a cell lacks; a page goes on after it."""
    from IPython.display import HTML, display

    why = str(error) if isinstance(error, AssertionError) or type(error).__module__.startswith("voiceclone") else ""
    reason = html.escape(why or f"{kind.__name__}: {error}")
    display(HTML(f'<p>{LATER}<br><small style="opacity:.7">{reason}</small></p>'))


def write_pages(folder: str | Path) -> list[Path]:
    """Copy every notebook into a folder as a page.

    Parameters
    ----------
    folder
        An empty folder; the copies have the notebooks' names, so that their links lead from page to page.
    """
    import nbformat

    pages = []
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        book = nbformat.read(path, as_version=4)
        for cell in book.cells:
            cell.source = "".join(line for line in cell.source.splitlines(keepends=True) if not line.startswith(BADGE))
        book.cells.insert(0, nbformat.v4.new_code_cell(FIRST))
        pages.append(Path(folder) / path.name)
        nbformat.write(book, pages[-1])
    return pages


def command(folder: str | Path, *options: str) -> list[str]:
    """What serves such a folder.

    Raises
    ------
    UnavailableError
        If Voilà is not installed.
    """
    from importlib.util import find_spec

    if find_spec("voila") is None:
        raise UnavailableError("The application needs Voilà, which is not installed: pip install 'voila>=0.5'.")
    # A page shows every cell, also after one that lacks something.
    fixed = ("--VoilaExecutor.allow_errors=True", "--VoilaConfiguration.show_tracebacks=True")
    return [sys.executable, "-m", "voila", str(folder), *fixed, *options]


def main(options: Sequence[str] = ()) -> int:
    """Serve the pages until interrupted; options are Voilà's, such as ``--no-browser`` or ``--theme=dark``."""
    with tempfile.TemporaryDirectory(prefix="voiceclone-") as folder:
        write_pages(folder)
        # Voilà runs cells as papermill does, with nobody who could be asked; but here somebody sits before the page.
        server = subprocess.Popen(command(folder, *options), env=os.environ | {"VOICECLONE_HEADLESS": "0"})
        try:
            return server.wait()
        except KeyboardInterrupt:
            return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
