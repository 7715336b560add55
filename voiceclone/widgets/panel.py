"""What a notebook cell shows: live controls where there is a browser, the same facts as a table where there is none.

A notebook of this project runs in three places: in JupyterLab or Colab with a person before it, through papermill
with nobody there, and years later as a saved file whose kernel is gone. A `Panel` serves all three. It builds its
ipywidgets only when a browser will show them, and always carries an HTML and a text form of what it knows, which
is what a saved notebook shows.
"""

from __future__ import annotations

import html
import os
import sys
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import VoiceCloneError

if TYPE_CHECKING:
    import ipywidgets
    from IPython.display import DisplayHandle

HEADLESS_VARIABLE = "VOICECLONE_HEADLESS"  # "1": nobody is watching; "0": somebody is; unset: ask the kernel

# Widget callbacks may come on a thread of their own (ipykernel 7), so whatever writes into the voice folder takes
# this lock. One for all panels: two panels may show the same voice.
VOICE_LOCK = threading.RLock()

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_TABLE_STYLE = "border-collapse:collapse;width:auto;max-width:62em;margin:.4em 0"
_CELL_STYLE = "text-align:left;vertical-align:top;padding:.3em .8em .3em 0;line-height:1.45"
_SHORT = 24  # characters: cells up to this length are kept on one line


def headless() -> bool:
    """Whether nobody is there to press a button: no kernel, or a kernel that papermill drives.

    nbclient runs cells with `allow_stdin=False` and browsers with True; the kernel remembers it under a private
    name, so the environment variable `VOICECLONE_HEADLESS` (0 or 1) wins over it.
    """
    said = os.environ.get(HEADLESS_VARIABLE, "")
    if said:
        return said != "0"
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return not getattr(getattr(shell, "kernel", None), "_allow_stdin", False)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning once as a quiet line, without the file and line of code that a notebook would print."""
    from IPython.display import display

    shown: set[str] = set()

    def show(message: Warning, *_: Any, **__: Any) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            display(Markup(f"<em>{html.escape(str(message))}</em>", str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield


class Panel(ABC):
    """Base of everything here: subclasses write `html`, `text` and `build`.

    `widget` is built on first use, so a headless run makes no widgets and saves no widget state.
    """

    @abstractmethod
    def html(self) -> str:
        """The panel's facts as HTML without controls."""

    @abstractmethod
    def text(self) -> str:
        """The panel's facts in one or a few lines of plain text."""

    @abstractmethod
    def build(self) -> ipywidgets.Widget:
        """The live controls."""

    @cached_property
    def widget(self) -> ipywidgets.Widget:
        """The live controls, built when first asked for."""
        return self.build()

    @cached_property
    def message(self) -> ipywidgets.HTML:
        """Where the panel says what it did, or why it could not."""
        import ipywidgets

        return ipywidgets.HTML()

    def say(self, text: str, *, problem: bool = False) -> None:
        """Show a line below the controls; an empty one clears it."""
        mark, colour = ("&#9888;", "#b3261e") if problem else ("&#10003;", "#1b6e3c")
        self.message.value = f'<span style="color:{colour}">{mark} {html.escape(text)}</span>' if text else ""

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the voice folder's lock; show an error of ours in the panel instead of raising it."""
        with VOICE_LOCK:
            try:
                yield
            except VoiceCloneError as error:
                self.say(str(error), problem=True)

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle: dict[str, Any] = {"text/plain": self.text(), "text/html": self.html()}
        if headless():
            return bundle, {}
        bundle[_WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return bundle, _for_colab()


def _for_colab() -> dict[str, Any]:
    """What tells Colab to show widgets that are not its own: where the manager lies that anywidget has asked for."""
    manager = getattr(sys.modules.get("google.colab.output"), "_widgets", None)
    url = getattr(manager, "_installed_url", None)
    return {_WIDGET_VIEW: {"colab": {"custom_widget_manager": {"url": url}}}} if url else {}


class Markup:
    """A piece of HTML with a plain text form: what `table`, `facts` and the players return.

    >>> Markup("<b>two</b> takes", "two takes")
    two takes
    """

    def __init__(self, html: str, text: str) -> None:
        self._html, self._text = html, text

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def table(
    rows: Mapping[str, object] | Iterable[Any], *, heading: Sequence[str] = (), columns: Sequence[str] = ()
) -> Markup:
    """Rows as a table; a cell that is a `Markup` goes in as HTML, anything else as escaped text.

    Parameters
    ----------
    rows
        Sequences of cells; or dicts, whose keys become the heading; or one dict, whose items become the rows.
    heading
        Column names; empty for a table of "name, value" rows.
    columns
        Which keys of dicts to show; all by default.
    """
    rows = list(rows.items() if isinstance(rows, Mapping) else rows)
    if not rows:
        return Markup("<i>nothing yet</i>", "nothing yet")
    if isinstance(rows[0], Mapping):
        heading = columns or tuple(rows[0])
        rows = [tuple(row[name] for name in heading) for row in rows]
    text = "\n".join("  ".join(map(_said, row)) for row in ([heading] if heading else []) + rows)
    if not heading:
        rows = [(Markup(f"<b>{html.escape(str(name))}</b>", str(name)), *rest) for name, *rest in rows]
    head = f"<tr>{''.join(_cell(name, tag='th') for name in heading)}</tr>" if heading else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return Markup(f'<table style="{_TABLE_STYLE}">{head}{body}</table>', text)


def bullets(lines: Iterable[str], *, none: str = "nothing") -> Markup:
    """Lines as a list, or the word for an empty one."""
    lines = list(lines) or [none]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return Markup(f'<ul style="max-width:62em">{items}</ul>', "\n".join(f"- {line}" for line in lines))


def facts(record: Any) -> Markup:
    """The fields of a dataclass as a table of names and values; arrays and what is empty are left out.

    >>> facts(report)                                            # doctest: +SKIP
    """
    return table({name.replace("_", " "): value for name, value in _filled(record).items()})


def _filled(record: Any) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in values.items() if not hasattr(value, "shape") and value not in ("", None)}


def _said(value: Any) -> str:
    """A value as a person would write it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (tuple, list)):
        return "; ".join(map(_said, value)) or "none"
    if hasattr(value, "message"):
        return value.message
    if is_dataclass(value):
        return ", ".join(f"{name.replace('_', ' ')}: {_said(inner)}" for name, inner in _filled(value).items())
    return str(value)


def _cell(value: object, *, tag: str = "td") -> str:
    inside = value._repr_html_() if isinstance(value, Markup) else html.escape(_said(value))
    wrap = "nowrap" if len(str(value)) <= _SHORT else "normal"
    return f'<{tag} style="{_CELL_STYLE};white-space:{wrap}">{inside}</{tag}>'


class Progress:
    """A bar that stages call with what is done and what there is in all.

    >>> transcribe(voice, progress=Progress("clips heard"))      # doctest: +SKIP
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._handle: DisplayHandle | None = None

    def __call__(self, done: int, total: int) -> None:
        from IPython.display import DisplayHandle

        text = f"{self.label}: {done} of {total}"
        bar = f'<progress value="{done}" max="{total}"></progress> {html.escape(text)}'
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(Markup(bar, text))
        else:
            self._handle.update(Markup(bar, text))


def button(label: str, action: Callable[[], None], *, icon: str = "", tooltip: str = "") -> ipywidgets.Button:
    """A button that calls `action` when pressed."""
    import ipywidgets

    made = ipywidgets.Button(description=label, icon=icon, tooltip=tooltip or label)
    made.layout.width, made.layout.align_self = "auto", "flex-start"
    made.on_click(lambda _: action())
    return made
