"""Bringing recordings in: from a microphone, from files, from a folder; and seeing what was found wrong with them."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AudioError, VoiceCloneError
from ..prompts import PROMPTS
from ..record import choose_take, import_takes, microphones, record_take
from ..voice import Clip, Voice
from .panel import VOICE_LOCK, Markup, Panel, button, table
from .players import picture, play

if TYPE_CHECKING:
    import ipywidgets

WORDS_PER_SECOND = 2.0  # an unhurried reader; the recording time offered for a prompt
SPARE_SECONDS = 2.0  # for the breath before and after
NOBODY = (  # is there to read, as far as a saved or headless notebook can tell
    "Run this cell in JupyterLab or Colab to record, or name a folder of recordings (0001-1.wav, ...) as takes_from."
)


class TakePanel(Panel):
    """One prompt at a time: read it, see at once whether the take is good, take it again.

    The browser's microphone records (`recorder`). Below it, folded away until they are needed, are the ways for
    those whose page has none: this computer's own microphone, and files.

    Parameters
    ----------
    voice
        The voice whose takes these are.
    takes_from
        A folder of recordings to bring in at once; "" for none.
    prompts
        The sentences to read; number n is clip n.
    at
        Number of the prompt that is shown first; by default the first that nobody has read.
    """

    def __init__(
        self,
        voice: Voice,
        *,
        takes_from: str | Path = "",
        prompts: Sequence[str] = PROMPTS,
        at: int | None = None,
    ) -> None:
        self.voice, self.prompts = voice, prompts
        self.problem = ""  # what went wrong while bringing in the folder, one line
        self._seconds: ipywidgets.FloatSlider | None = None  # how long to record; None without a microphone
        if takes_from:
            self.bring(takes_from)
        self._at = at or next(iter(self.missing), 1)  # number of the prompt that is shown

    @property
    def recorded(self) -> tuple[Clip, ...]:
        """The clips that have a take."""
        return tuple(clip for clip in self.voice.clips if clip.take)

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the prompts that nobody has read yet."""
        have = {clip.number for clip in self.recorded}
        return tuple(number for number in range(1, len(self.prompts) + 1) if number not in have)

    def bring(self, source: str | Path | list[Path]) -> None:
        """Import a folder or files; the good ones are in even when one is not a sound."""
        try:
            with VOICE_LOCK:
                import_takes(self.voice, source, prompts=self.prompts)
        except AudioError as error:
            if not self.recorded:
                raise
            self.problem = str(error)

    # What a saved notebook shows ----------------------------------------------------------------------------------

    def html(self) -> str:
        rows = [(clip.id, clip.prompt, clip.take, _verdict(clip)) for clip in self.recorded]
        shown = table(rows, heading=("clip", "prompt", "take", "checks"))._repr_html_() if rows else ""
        return f"<p>{html.escape(self.text())}</p>{shown}"

    def text(self) -> str:
        return self.summary() if self.recorded else f"{self.summary()} {NOBODY}"

    def summary(self) -> str:
        """How many prompts are read and how many takes have something wrong, in a line."""
        flawed = sum(bool(clip.checks) for clip in self.recorded)
        said = f"{len(self.recorded)} of {len(self.prompts)} prompts recorded, {flawed} with something to look at."
        return f"{said} {self.problem}".strip()

    # The live panel -----------------------------------------------------------------------------------------------

    def build(self) -> ipywidgets.Widget:
        import ipywidgets

        from .recorder import Recorder  # anywidget takes a while to import, and nothing headless needs it

        by_hand = self._by_hand()
        self.recorder = Recorder(self.voice, self.prompts, at=self._at, local=self._seconds is not None)
        ways = ipywidgets.Accordion([by_hand], selected_index=None)
        ways.set_title(0, "Files, folders, or this computer's own microphone")
        self.recorder.observe(lambda change: self._unfold(ways, change["new"]), "able")
        ways.observe(lambda change: self._follow(), "selected_index")
        return ipywidgets.VBox([self.recorder, ways], layout={"max_width": "960px"})

    def _unfold(self, ways: ipywidgets.Accordion, able: str) -> None:
        if able != "yes":  # the page has no microphone
            ways.selected_index = 0

    def _follow(self) -> None:
        """Show by hand the sentence that is in view above, as it is now."""
        self._slider.value = self.recorder.index + 1
        self._show(self._slider.value)

    def _by_hand(self) -> ipywidgets.Widget:
        import ipywidgets

        self._slider = ipywidgets.IntSlider(self._at, 1, len(self.prompts), description="prompt")
        self._slider.observe(lambda change: self._show(change["new"]), "value")
        self._prompt, self._view = ipywidgets.HTML(), ipywidgets.HTML()
        self._choice = ipywidgets.Dropdown(description="take")
        self._choice.observe(self._choose, "value")
        steps = [
            button("Previous", lambda: self._move(-1), icon="arrow-left"),
            self._slider,
            button("Next", lambda: self._move(+1), icon="arrow-right"),
            button("Next not recorded", self._move_to_missing, icon="forward"),
        ]
        rows = [ipywidgets.HBox(steps), self._prompt, self._microphone(), self._files(), self.message]
        self._show(self._at)
        return ipywidgets.VBox([*rows, self._choice, self._view])

    def _microphone(self) -> ipywidgets.Widget:
        import ipywidgets

        names = microphones()
        if not names:
            return ipywidgets.HTML("<i>This computer's Python sees no microphone: bring sound files instead.</i>")
        self._seconds = ipywidgets.FloatSlider(8.0, min=2.0, max=20.0, step=0.5, description="seconds")
        self._device = ipywidgets.Dropdown(options=[("default microphone", None), *((n, n) for n in names)])
        return ipywidgets.HBox([button("Record", self._record, icon="microphone"), self._seconds, self._device])

    def _files(self) -> ipywidgets.Widget:
        import ipywidgets

        upload = ipywidgets.FileUpload(accept="audio/*", multiple=True, description="Bring files")
        upload.observe(self._uploaded, "value")
        folder = ipywidgets.Text(placeholder="a folder of sound files")
        bring = button("Bring folder", lambda: self._import(folder.value), icon="folder")
        return ipywidgets.HBox([upload, folder, bring])

    def _move(self, by: int) -> None:
        self._slider.value = min(max(self._slider.value + by, 1), len(self.prompts))

    def _move_to_missing(self) -> None:
        if self.missing:
            self._slider.value = self.missing[0]
        else:
            self.say("Every prompt has a take.")

    def _show(self, number: int) -> None:
        self._at = number
        prompt = self.prompts[number - 1]
        self._prompt.value = (
            f'<div style="font-size:1.4em;line-height:1.5;margin:.4em 0;max-width:36em">{html.escape(prompt)}</div>'
        )
        if self._seconds is not None:
            self._seconds.value = round(len(prompt.split()) / WORDS_PER_SECOND + SPARE_SECONDS, 1)
        with self.working():
            self._show_take()

    def _show_take(self) -> None:
        clip = next((clip for clip in self.recorded if clip.number == self._at), None)
        names = [path.name for path in self.voice.takes(f"{self._at:04d}")]
        self._choice.unobserve(self._choose, "value")
        self._choice.options = names
        self._choice.value = clip.take if clip and clip.take in names else None  # its file may have been removed
        self._choice.layout.display = "" if len(names) > 1 else "none"
        self._choice.observe(self._choose, "value")
        self._view.value = take_picture(self.voice, clip)._repr_html_() if clip else "<i>not recorded yet</i>"

    def _choose(self, change: dict[str, Any]) -> None:
        with self.working():
            choose_take(self.voice, f"{self._at:04d}", change["new"])
            self._show_take()

    def _record(self) -> None:
        with self.working():
            self.message.value = "<b>&#9679; Recording: read the sentence now.</b>"
            record_take(
                self.voice, f"{self._at:04d}", seconds=self._seconds.value, device=self._device.value
            )
            self._after()

    def _uploaded(self, change: dict[str, Any]) -> None:
        files = uploaded_files(change["new"])
        if not files:
            return
        with self.working(), tempfile.TemporaryDirectory() as folder:
            paths = []
            for name, content in files:
                # A single file is for the prompt in view; several say by their names or order where they belong.
                stem = f"{self._at:04d}-1" if len(files) == 1 else Path(name).stem
                paths.append(Path(folder, stem + Path(name).suffix))
                paths[-1].write_bytes(content)
            self._import(paths)

    def _import(self, source: str | list[Path]) -> None:
        with self.working():
            import_takes(self.voice, source, prompts=self.prompts)
            self._after()

    def _after(self) -> None:
        self.say(self.summary())
        self._show_take()
        self.recorder.refresh()


def take_picture(voice: Voice, clip: Clip) -> Markup:
    """A clip's chosen take: player, waveform, spectrogram and what the checks say."""
    from .. import plots
    from ..audio import load

    path = voice.take_path(clip)
    try:
        wave, sample_rate = load(path, sample_rate=None)
    except VoiceCloneError as error:
        return Markup(html.escape(str(error)), str(error))
    parts = [play(path), picture(plots.take(wave, sample_rate))]
    verdict = _verdict(clip)
    inside = "".join(f"<div>{part._repr_html_()}</div>" for part in parts)
    return Markup(f"<div>{html.escape(verdict)}</div>{inside}", f"{clip.take}: {verdict}")


def _verdict(clip: Clip) -> str:
    return clip.checks or "fine"


def uploaded_files(value: Any) -> list[tuple[str, bytes]]:
    """Names and contents from a FileUpload, whose value ipywidgets 7 gives as a dict and 8 as a tuple."""
    if isinstance(value, dict):
        return [(name, bytes(file["content"])) for name, file in value.items()]
    return [(file["name"], bytes(file["content"])) for file in value]
