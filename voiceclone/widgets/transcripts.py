"""The table in which transcripts are read, heard and put right."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ..prompts import PROMPTS
from ..transcribe import accept, correct, reject, word_differences, word_error_rate
from ..voice import Clip, Voice
from .panel import VOICE_LOCK, Markup, table
from .players import sound_file
from .views import LivePanel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


class TranscriptTable(LivePanel):
    """Every clip with its prompt, what was heard and the text that training will use, which can be edited in place.

    What is written or decided there is in ``clips.csv`` at once.
    """

    script = "review.js"

    def __init__(self, voice: Voice) -> None:
        super().__init__()
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

    # The live table -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"rows": [_row(clip) for clip in self.voice.clips if clip.take]}

    def build(self) -> ipywidgets.Widget:
        import ipywidgets

        self._below = ipywidgets.VBox()  # where a clip is read again
        return ipywidgets.VBox([self.view, self._below])

    def on_sound(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The chosen take of a clip, when it is played."""
        return {"buffers": [sound_file(self.voice.take_path(self.voice.clip(message["id"])))]}

    def on_correct(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """What somebody wrote into a line."""
        return self._changed(lambda: correct(self.voice, message["id"], message["text"]), "saved")

    def on_accept(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A clip is good as it is."""
        return self._changed(lambda: accept(self.voice, message["id"]), "accepted")

    def on_reject(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A clip stays out of training."""
        return self._changed(lambda: reject(self.voice, message["id"]), "left out")

    def on_retake(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Open the recorder below the table, at this clip."""
        from .takes import TakePanel

        known = dict(enumerate(PROMPTS, 1)) | {clip.number: clip.prompt for clip in self.voice.clips}
        prompts = [known.get(number, "") for number in range(1, max(known) + 1)]
        clip = self.voice.clip(message["id"])
        panel = TakePanel(self.voice, prompts=prompts, at=clip.number)
        self._below.children = (panel.widget,)
        panel.recorder.again = clip.take
        panel.recorder.observe(lambda change: self.on_refresh({}), "sentences")  # a take was kept
        return {"said": f"The recorder below the table is open at clip {clip.id}."}

    def on_refresh(self, message: Mapping[str, Any]) -> None:
        """Show what changed in ``clips.csv`` since the table was drawn: a retake, a correction in a spreadsheet."""
        known = {row["id"]: row for row in self.view.state["rows"]}
        for clip in self.voice.clips:
            if clip.take and known.get(clip.id) != (row := _row(clip)):
                self._show(row)

    def _changed(self, change: Callable[[], Clip], said: str) -> dict[str, Any]:
        with VOICE_LOCK:
            clip = change()
        self._show(_row(clip))
        return {"said": f"Clip {clip.id}: {said}."}

    def _show(self, row: dict[str, Any]) -> None:
        """Put one row in the place of the one before, here and on the page."""
        rows = self.view.state["rows"]
        at = next((place for place, known in enumerate(rows) if known["id"] == row["id"]), len(rows))
        rows[at : at + 1] = [row]
        self.tell("row", row=row)


def _row(clip: Clip) -> dict[str, Any]:
    """What the page shows of a clip."""
    if clip.heard:
        words = [(word.kind, word.reference, word.hypothesis) for word in word_differences(clip.prompt, clip.heard)]
    else:
        words = [("same", clip.prompt, clip.prompt)]
    return {
        "id": clip.id,
        "take": clip.take,
        "hash": clip.hash,
        "words": [list(word) for word in words],
        "transcript": clip.transcript,
        "confidence": _number(clip.confidence),
        "checks": clip.checks,
        "state": clip.state,
        "source": clip.source,
    }


def _number(cell: str) -> float | None:
    """A cell's number; None where it holds none, or a spreadsheet has spelled it in its own way."""
    try:
        return float(cell)
    except ValueError:
        return None


def _heard(clip: Clip) -> Markup:
    return differences(clip.prompt, clip.heard) if clip.heard else Markup(html.escape(clip.prompt), clip.prompt)


def _origin(clip: Clip) -> str:
    return f"{clip.state} ({clip.source})" if clip.source else clip.state
