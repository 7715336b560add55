"""The form with which a voice begins: who agrees, and to what."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VoiceError
from ..voice import CONSENT_STATEMENT, Voice
from .panel import Panel, button, table

if TYPE_CHECKING:
    import ipywidgets


class ConsentForm(Panel):
    """Shows the statement; makes the voice once somebody has agreed to it by name.

    Parameters
    ----------
    voice_path
        Folder of the voice; its last part is the voice's name. A voice that is there already is opened.
    who_agrees
        Name of who agrees. With a name the voice is made at once; without one the form asks for it.
    """

    def __init__(self, voice_path: str | Path, *, who_agrees: str = "") -> None:
        self.path = Path(voice_path)
        self.voice: Voice | None = None
        if (self.path / "voice.json").exists():
            self.voice = Voice.open(self.path)
        elif who_agrees.strip():
            self.agree(who_agrees)

    def agree(self, who: str) -> Voice:
        """Make the voice with the consent of `who`."""
        self.voice = Voice.create(self.path.name, root=self.path.parent, consent=who)
        return self.voice

    def html(self) -> str:
        statement = f'<blockquote style="margin:.4em 1em;max-width:46em">{html.escape(self._statement)}</blockquote>'
        return statement + table(self._facts())._repr_html_()

    def text(self) -> str:
        return f"{self._statement}\n{table(self._facts())!r}"

    @property
    def _statement(self) -> str:
        return self.voice.consent.agreed if self.voice else CONSENT_STATEMENT

    def _facts(self) -> list[tuple[str, str]]:
        if self.voice is None:
            return [("voice", self.path.name), ("agreed by", "nobody yet"), ("folder", "not made yet")]
        consent = self.voice.consent
        return [
            ("voice", self.voice.name),
            ("agreed by", consent.who),
            ("on", consent.when.replace("T", " ")),
            ("folder", str(self.voice.path)),
        ]

    def build(self) -> ipywidgets.Widget:
        import ipywidgets

        facts = ipywidgets.HTML(self.html())
        if self.voice is not None:
            return facts
        who = ipywidgets.Text(placeholder="your full name", description="I am")
        agreed = ipywidgets.Checkbox(description="I have read the statement and agree to it", indent=False)
        agreed.layout.width = "auto"

        def make() -> None:
            with self.working():
                if not agreed.value:
                    raise VoiceError("Tick the box first: without consent no voice is made.")
                self.agree(who.value)
                self.say(f"The voice {self.voice.name} is made.")
                facts.value = self.html()
                form.children = (facts, self.message)

        form = ipywidgets.VBox([facts, who, agreed, button("Make the voice", make, icon="check"), self.message])
        return form
