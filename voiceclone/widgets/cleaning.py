"""Trying cleaning on one clip before it is done to all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..clean import CleanConfig, clean_wave
from ..voice import Voice
from .panel import Panel, table
from .players import picture, side_by_side

if TYPE_CHECKING:
    import ipywidgets


class CleanPreview(Panel):
    """Sliders for the cleaning's settings, with one clip before and after; `config` is what they say now.

    Parameters
    ----------
    voice
        A voice with takes.
    config
        Where the sliders start.
    """

    def __init__(self, voice: Voice, config: CleanConfig = CleanConfig()) -> None:
        self.voice, self.config = voice, config
        self._clips = [clip for clip in voice.clips if clip.take]

    def html(self) -> str:
        return table(self._facts())._repr_html_()

    def text(self) -> str:
        return repr(table(self._facts()))

    def _facts(self) -> list[tuple[str, str]]:
        config = self.config
        return [
            ("loudness", f"{config.target_lufs:g} LUFS"),
            ("highest peak", f"{config.true_peak_dbfs:g} dBFS"),
            ("silence kept at the ends", f"{config.margin_seconds:g} s"),
            ("high-pass", f"{config.highpass_hz:g} Hz"),
            ("noise reduction", "on" if config.denoise else "off"),
        ]

    def build(self) -> ipywidgets.Widget:
        import ipywidgets

        style = {"description_width": "12em"}
        wide = ipywidgets.Layout(width="34em")

        def slider(name: str, label: str, lowest: float, highest: float, step: float) -> ipywidgets.FloatSlider:
            return ipywidgets.FloatSlider(
                getattr(self.config, name), min=lowest, max=highest, step=step, description=label, style=style,
                layout=wide, continuous_update=False,
            )  # fmt: skip

        controls = {
            "target_lufs": slider("target_lufs", "loudness, LUFS", -32, -14, 0.5),
            "margin_seconds": slider("margin_seconds", "silence at the ends, s", 0, 0.5, 0.01),
            "highpass_hz": slider("highpass_hz", "high-pass, Hz", 0, 150, 5),
            "denoise": ipywidgets.Checkbox(self.config.denoise, description="noise reduction", style=style),
        }
        names = [(f"{clip.id}  {clip.prompt}", clip.id) for clip in self._clips]
        chosen = ipywidgets.Dropdown(options=names, description="clip", style=style, layout=wide)
        view = ipywidgets.HTML()

        def update(_: Any = None) -> None:
            with self.working():
                self.config = replace(self.config, **{name: control.value for name, control in controls.items()})
                view.value = self._before_after(chosen.value)
                self.say("")

        for control in (chosen, *controls.values()):
            control.observe(update, "value")
        update()
        return ipywidgets.VBox([chosen, *controls.values(), self.message, view])

    def _before_after(self, clip_id: str | None) -> str:
        from .. import plots
        from ..audio import load

        if clip_id is None:
            return "<i>no takes yet: notebook 01</i>"
        wave, sample_rate = load(self.voice.take_path(self.voice.clip(clip_id)), sample_rate=None)
        cleaned, *_ = clean_wave(wave, sample_rate, self.config)
        sounds = side_by_side(before=(wave, sample_rate), after=(cleaned, 22050))
        figure = picture(plots.before_after(wave, sample_rate, cleaned, 22050))
        return sounds._repr_html_() + figure._repr_html_()
