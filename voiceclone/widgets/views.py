"""The kernel's side of the live views: one widget class, a page's questions answered by methods, news sent to it.

A view's page side is a script beside this file. It is given a state when it is first drawn, asks for the rest when a
person wants it (a clip's sound when it is played, not before), and is told what changes. Sounds and pictures travel as
bytes beside a message and never enter the notebook's saved widget state.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VoiceCloneError
from .panel import Panel

if TYPE_CHECKING:
    import anywidget
    import ipywidgets

HERE = Path(__file__).parent
REMEMBERED = 8  # answers


class LivePanel(Panel):
    """A panel whose controls are a page of our own.

    Subclasses name their `script`, say what it shows at first (`state`), and answer the page's messages of a type
    with a method ``on_<type>``, which returns what the page is told, or None.
    """

    script = ""  # file beside this one

    def __init__(self) -> None:
        # Messages may come on a thread of their own (ipykernel 7): what a panel knows changes one message at a time.
        self.lock = threading.RLock()
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict()  # the newest, for a page that did not get them

    def state(self) -> dict[str, Any]:
        """What the page shows when it is first drawn; plain values only."""
        return {}

    @cached_property
    def view(self) -> anywidget.AnyWidget:
        """The widget that the page draws."""
        made = _view_class()(_esm=_script(self.script), state=self.state())
        made.on_msg(lambda _, message, buffers: self.receive(message))
        return made

    def build(self) -> ipywidgets.Widget:
        return self.view

    def receive(self, message: Mapping[str, Any]) -> None:
        """Answer one message of the page; what goes wrong is said there.

        A page asks again when it hears nothing: what was done already is not done twice, and answered as before.
        """
        ask = str(message.get("ask"))
        with self.lock:
            if ask not in self._answers:
                answer = getattr(self, f"on_{message.get('type')}", None)
                if answer is None:
                    return
                self._answers[ask] = _answered(answer, message)
                while len(self._answers) > REMEMBERED:
                    self._answers.popitem(last=False)
            self.tell("reply", ask=ask, **self._answers[ask])

    def tell(self, kind: str, *, buffers: Sequence[bytes] = (), **content: Any) -> None:
        """Send news to the page; `content` is plain values."""
        self.view.send({"type": kind, **content}, list(buffers))


def _answered(answer: Callable[[Mapping[str, Any]], dict[str, Any] | None], message: Mapping[str, Any]) -> dict:
    """What an answering method says; what goes wrong in it is an answer too."""
    try:
        return answer(message) or {}
    except VoiceCloneError as error:
        return {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 - the edge: else it would be lost in the kernel's log
        return {"problem": f"{type(error).__name__}: {error}"}


@cache
def _view_class() -> type[anywidget.AnyWidget]:
    """Made when first needed: anywidget takes longer to import than all of `voiceclone`."""
    import anywidget
    import traitlets

    class View(anywidget.AnyWidget):
        # Changed in place by panels that tell the page of the change themselves: a page that is drawn anew finds the
        # newest state, and an edit of one row does not send all rows.
        state = traitlets.Dict().tag(sync=True)
        _esm = traitlets.Unicode().tag(sync=True)
        _css = (HERE / "views.css").read_text(encoding="utf-8")

    return View


@cache
def _script(name: str) -> str:
    return "\n".join((HERE / part).read_text(encoding="utf-8") for part in ("views.js", name))
