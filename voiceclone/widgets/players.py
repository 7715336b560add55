"""Sounds and pictures as HTML that a saved notebook keeps."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

from .panel import Markup, table

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from matplotlib.figure import Figure

PREVIEW_RATE = 22_050  # Hz: enough for speech, and half the bytes of 44,100


def player(wave: np.ndarray, sample_rate: int, *, label: str = "") -> Markup:
    """A player that carries its sound with it, as FLAC of at most 22,050 Hz.

    Parameters
    ----------
    wave
        Shape (samples,), within -1 to 1. It is played as loud as it is: nothing is normalised.
    sample_rate
        Hz.
    label
        Words above the player.
    """
    seconds = len(wave) / sample_rate
    data = base64.b64encode(sound(wave, sample_rate)).decode("ascii")
    title = f"<div>{html.escape(label)}</div>" if label else ""
    audio = f'<audio controls preload="metadata" style="width:20em" src="data:audio/flac;base64,{data}"></audio>'
    return Markup(title + audio, f"[sound, {seconds:.1f} s{': ' + label if label else ''}]")


def sound(wave: np.ndarray, sample_rate: int) -> bytes:
    """Encode a wave, (samples,), as a browser plays it: FLAC of at most 22,050 Hz."""
    import numpy as np
    import soundfile

    from ..audio import resample

    if sample_rate > PREVIEW_RATE:
        wave, sample_rate = resample(wave, sample_rate, PREVIEW_RATE), PREVIEW_RATE
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(wave, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def sound_file(path: str | Path) -> bytes:
    """The sound of a file, as `sound` encodes it."""
    from ..audio import load

    return sound(*load(path, sample_rate=None))


def play(path: str | Path, *, label: str = "") -> Markup:
    """A player for a sound file."""
    from ..audio import load

    wave, sample_rate = load(path, sample_rate=None)
    return player(wave, sample_rate, label=label)


def side_by_side(**sounds: tuple[np.ndarray, int]) -> Markup:
    """Players next to each other, each under its name.

    >>> side_by_side(natural=(wave, 22050), cloned=(said.wave, said.sample_rate))    # doctest: +SKIP
    """
    names = [name.replace("_", " ") for name in sounds]
    return table([[player(wave, rate) for wave, rate in sounds.values()]], heading=names)


def image(figure: Figure) -> bytes:
    """A matplotlib figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def picture(figure: Figure) -> Markup:
    """A matplotlib figure as an image, for places that take HTML only."""
    return picture_of(image(figure))


def picture_of(png: bytes) -> Markup:
    """A PNG as an image in HTML."""
    data = base64.b64encode(png).decode("ascii")
    return Markup(f'<img alt="figure" style="max-width:100%" src="data:image/png;base64,{data}">', "[figure]")
