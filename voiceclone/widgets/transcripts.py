"""The table in which transcripts are read, heard and put right."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ..transcribe import accept, correct, reject, word_differences, word_error_rate
from ..voice import Clip, Voice
from .panel import Markup, Panel, button, table
from .players import play

if TYPE_CHECKING:
    import ipywidgets

_MARKS = {  # how a word that differs is shown; struck out = in the prompt only, underlined = heard only
    "missing": '<del style="color:#b3261e">{reference}</del>',
    "added": '<ins style="color:#1b6e3c">{hypothesis}</ins>',
    "replaced": '<del style="color:#b3261e">{reference}</del> <ins style="color:#1b6e3c">{hypothesis}</ins>',
}


def differences(prompt: str, heard: str) -> Markup:
    """The prompt with what was heard marked in it: struck out = not heard, underlined = heard and not asked for."""
    words = []
    for word in word_differences(prompt, heard):
        pattern = _MARKS.get(word.kind, "{reference}")
        words.append(pattern.format(reference=html.escape(word.reference), hypothesis=html.escape(word.hypothesis)))
    return Markup(" ".join(words), f"{prompt} / {heard}")


class TranscriptTable(Panel):
    """Every clip with its prompt, what was heard and the text that training will use, which can be edited in place."""

    def __init__(self, voice: Voice) -> None:
        self.voice = voice

    @property
    def accepted(self) -> tuple[Clip, ...]:
        """The clips that training may use."""
        return tuple(clip for clip in self.voice.clips if clip.take and clip.state == "accepted")

    @property
    def word_error_rate(self) -> float:
        """Of what was heard against the prompts, over all clips that were heard: 0 is every word as on the sheet."""
        heard = [clip for clip in self.voice.clips if clip.heard]
        return word_error_rate([clip.prompt for clip in heard], [clip.heard for clip in heard])

    @property
    def doubtful(self) -> tuple[Clip, ...]:
        """The clips that somebody should look at."""
        return tuple(clip for clip in self.voice.clips if clip.state == "review")

    def html(self) -> str:
        rows = [(clip.id, _heard(clip), clip.transcript, _origin(clip)) for clip in self.voice.clips if clip.take]
        heading = ("clip", "heard, against the prompt", "transcript", "state")
        return f"<p>{self.text()}</p>" + table(rows, heading=heading)._repr_html_()

    def text(self) -> str:
        clips = [clip for clip in self.voice.clips if clip.take]
        return f"{len(clips)} transcripts: {len(self.accepted)} accepted, {len(self.doubtful)} to look at."

    def build(self) -> ipywidgets.Widget:
        import ipywidgets

        self._player = ipywidgets.HTML("<i>Press Listen beside a clip.</i>")
        self._summary = ipywidgets.HTML(self.text())
        only = ipywidgets.Checkbox(description="only those to look at", indent=False)
        rows = {clip.id: self._row(clip) for clip in self.voice.clips if clip.take}

        def show(change: dict[str, Any]) -> None:
            for clip in self.voice.clips:
                if clip.id in rows:
                    rows[clip.id].layout.display = "none" if change["new"] and clip.state != "review" else ""

        only.observe(show, "value")
        top = ipywidgets.HBox([self._summary, only])
        return ipywidgets.VBox([top, self._player, self.message, *rows.values()])

    def _row(self, clip: Clip) -> ipywidgets.Widget:
        import ipywidgets

        wide = ipywidgets.Layout(width="60em", max_width="100%")
        heard = ipywidgets.HTML(_heard(clip)._repr_html_(), layout=wide)
        text = ipywidgets.Text(clip.transcript, continuous_update=False, layout=wide)
        state = ipywidgets.HTML(_origin(clip))

        def refresh(changed: Clip) -> None:
            state.value = _origin(changed)
            self._summary.value = self.text()
            self.say("")

        def corrected(change: dict[str, Any]) -> None:
            with self.working():
                refresh(correct(self.voice, clip.id, change["new"]))

        def decided(decide: Any) -> None:
            with self.working():
                decide(self.voice, clip.id)
                refresh(self.voice.clip(clip.id))

        text.observe(corrected, "value")
        buttons = [
            button("Listen", lambda: self._listen(clip), icon="play"),
            button("Accept", lambda: decided(accept), icon="check"),
            button("Leave out", lambda: decided(reject), icon="times"),
            state,
        ]
        number = ipywidgets.HTML(f"<b>{clip.id}</b>")
        body = ipywidgets.VBox([heard, text, ipywidgets.HBox(buttons)])
        return ipywidgets.HBox([number, body], layout=ipywidgets.Layout(padding=".4em 0"))

    def _listen(self, clip: Clip) -> None:
        with self.working():
            self._player.value = play(self.voice.take_path(clip), label=f"{clip.id}: {clip.prompt}")._repr_html_()


def _heard(clip: Clip) -> Markup:
    return differences(clip.prompt, clip.heard) if clip.heard else Markup(html.escape(clip.prompt), clip.prompt)


def _origin(clip: Clip) -> str:
    return f"{clip.state} ({clip.source})" if clip.source else clip.state
