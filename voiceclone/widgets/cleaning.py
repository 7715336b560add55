"""Trying cleaning on one clip, and doing it to all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ..clean import CleanConfig, CleanRecord, clean, clean_wave
from ..voice import Voice
from .panel import VOICE_LOCK, table
from .players import image, sound
from .views import LivePanel

_SLIDERS = (  # setting, label, unit, lowest, highest, step, what it does
    ("target_lufs", "Loudness ", "LUFS", -32.0, -14.0, 0.5, "how loud every clip becomes"),
    ("margin_seconds", "Silence kept ", "s", 0.0, 0.5, 0.01, "before and after the speech"),
    ("highpass_hz", "High-pass ", "Hz", 0.0, 150.0, 5.0, "what lies below is filtered out"),
    ("denoise_strength", "Noise taken away ", "%", 0.0, 100.0, 5.0, "share of the noise"),
)
_PERCENT = {"denoise_strength"}  # shown as a percentage, kept as a share


class CleanPreview(LivePanel):
    """Sliders for the cleaning's settings, with one clip before and after; `config` is what they say now.

    Parameters
    ----------
    voice
        A voice with takes.
    config
        Where the sliders start.
    """

    script = "cleaning.js"

    def __init__(self, voice: Voice, config: CleanConfig = CleanConfig()) -> None:
        super().__init__()
        self.voice, self.config = voice, config

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

    # The live view ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        names = ("name", "label", "unit", "lowest", "highest", "step", "note")
        shown = {name: value * 100 if name in _PERCENT else value for name, value in asdict(self.config).items()}
        return {
            "clips": [[f"{clip.id}  {clip.prompt}", clip.id] for clip in self.voice.clips if clip.take],
            "sliders": [dict(zip(names, row, strict=True)) for row in _SLIDERS],
            "settings": shown,
        }

    def on_try(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """One clip, before and after, with the settings as they are now."""
        from .. import plots
        from ..audio import AudioConfig, load

        self._set(message["settings"])
        wave, sample_rate = load(self.voice.take_path(self.voice.clip(message["id"])), sample_rate=None)
        cleaned, record = clean_wave(wave, sample_rate, self.config)
        rate = AudioConfig().sample_rate
        figure = plots.before_after(wave, sample_rate, cleaned, rate)
        buffers = [sound(wave, sample_rate), sound(cleaned, rate), image(figure)]
        return {"measures": _measures(record), "buffers": buffers}

    def on_apply(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Clean every clip with the settings as they are now."""
        self._set(message["settings"])
        with VOICE_LOCK:
            results = clean(
                self.voice, self.config, progress=lambda done, total: self.tell("progress", done=done, total=total)
            )
        failed = [result.id for result in results if result.state == "failed"]
        lost = f"; clips {', '.join(failed)} could not be: see notebook 02" if failed else ""
        return {"said": f"{len(results) - len(failed)} clips are clean{lost}."}

    def _set(self, settings: Mapping[str, Any]) -> None:
        known = {name: value / 100 if name in _PERCENT else value for name, value in settings.items()}
        self.config = replace(self.config, **known)
        self.view.state["settings"] = dict(settings)  # for a page that is drawn anew


def _measures(record: CleanRecord) -> list[list[str]]:
    """What cleaning did: name, before, after."""
    rows = [
        ["length", f"{record.seconds_before:.1f} s", f"{record.seconds_after:.1f} s"],
        ["loudness", f"{record.lufs_before:.1f} LUFS", f"{record.lufs_after:.1f} LUFS"],
        ["highest peak", "", f"{record.true_peak_dbfs:.1f} dBFS"],
        ["speech over noise", "", f"{record.snr_db:.0f} dB"],
    ]
    if record.held_back_db > 0.05:
        rows.append(["held back, so that no peak clips", "", f"{record.held_back_db:.1f} dB"])
    return [[cell.replace("-", "\N{MINUS SIGN}") for cell in row] for row in rows]
