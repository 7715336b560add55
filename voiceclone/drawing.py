"""What the figures of `voiceclone.plots` are made of: one look, and the parts that several of them share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .audio import AudioConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, FAINT, GRID = "#222222", "#666666", "#e3e3e3"

WIDTH = 10.0  # inches: 1000 pixels at 100 dots an inch
DECIBELS = 20 / math.log(10)  # of a natural logarithm
RANGE_DB = 80.0  # what a spectrogram shows below its loudest point
TICKS_KHZ = (0.25, 0.5, 1, 2, 4, 8)
BINS = 12


def new_figure(height: float) -> Figure:
    """A white figure of the usual width; `height` in inches of 100 pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # inches
    return figure


def describe(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Give axes their words and the look that all figures share."""
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=FAINT, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.set_axisbelow(True)
    if not axes.images:
        axes.grid(axis="y", color=GRID, linewidth=0.8)


def scale_bar(figure: Figure, axes: Any, image: AxesImage, label: str) -> None:
    """Add the scale of an image beside its axes, or beside the row or column of axes that share it."""
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=25)
    bar.set_label(label, fontsize=10, color=INK)
    bar.ax.tick_params(labelsize=9, colors=FAINT, labelcolor=INK)
    bar.outline.set_visible(False)


def draw_wave(axes: Axes, wave: np.ndarray, sample_rate: int) -> None:
    """Draw the lowest and highest sample of each of about 2,000 spans: a pixel column shows no more."""
    seconds = len(wave) / sample_rate
    span = max(1, len(wave) // 2000)
    whole = np.asarray(wave[: len(wave) // span * span]).reshape(-1, span)  # (samples,) -> (spans, samples)
    at = (np.arange(len(whole)) + 0.5) * span / sample_rate
    axes.fill_between(at, whole.min(axis=1), whole.max(axis=1), color=BLUE, linewidth=0.6, step=None)
    clipped = np.flatnonzero(np.abs(wave) >= 0.999)
    if len(clipped):
        axes.plot(
            clipped / sample_rate, np.sign(wave[clipped]), "|", color=RED, markersize=9, markeredgewidth=1.2
        )
        axes.set_title(f"{len(clipped):,} samples at full scale", loc="right", fontsize=10, color=RED)
    loudest = float(np.abs(wave).max(initial=0.0))
    axes.set_ylim(*np.array((-1, 1)) * min(1.08, max(0.1, 1.15 * loudest)))
    axes.set_xlim(0, max(seconds, 1e-3))


def mel_of(wave: np.ndarray, sample_rate: int, config: AudioConfig) -> np.ndarray:
    """Log-mel spectrogram, (n_mels, frames), of a recording (samples,) at any rate."""
    from .audio import log_mel, resample

    wave = resample(wave, sample_rate, config.sample_rate) if sample_rate != config.sample_rate else wave
    return log_mel(wave, config)[0].numpy()


def draw_mel(axes: Axes, mel: np.ndarray, config: AudioConfig, *, top: float | None = None) -> AxesImage:
    """Draw `RANGE_DB` below `top` (by default the loudest point), with bands labelled by their frequency."""
    decibels = mel * DECIBELS
    top = float(decibels.max(initial=-math.inf)) if top is None else top
    image = axes.imshow(
        decibels, origin="lower", aspect="auto", cmap="magma", vmin=top - RANGE_DB, vmax=top,
        extent=(0, mel.shape[1] / config.frames_per_second, -0.5, config.n_mels - 0.5),
    )  # fmt: skip
    ticks = [khz for khz in TICKS_KHZ if config.f_min < khz * 1000 <= config.f_max]
    places = [min(band_of(khz * 1000, config), config.n_mels - 0.5) for khz in ticks]
    axes.set_yticks(places, [f"{khz:g}" for khz in ticks])
    axes.set_ylim(-0.5, config.n_mels - 0.5)
    axes.grid(False)
    return image


def band_of(hertz: float, config: AudioConfig = AudioConfig()) -> float:
    """Mel band, counted from 0 and between bands a fraction, whose centre lies at a frequency.

    Slaney's scale, as in `voiceclone.audio.log_mel`: linear below 1 kHz, logarithmic above; the centres of
    ``n_mels`` bands divide ``f_min`` to ``f_max`` into ``n_mels + 1`` equal parts.
    """
    low, high = _slaney(config.f_min), _slaney(config.f_max)
    return (_slaney(hertz) - low) / (high - low) * (config.n_mels + 1) - 1


def _slaney(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def draw_histogram(axes: Axes, values: Sequence[float], colour: str) -> None:
    """Draw how many of the finite values fall where; values within 2 % of each other share the middle."""
    from matplotlib.ticker import MaxNLocator

    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    margin = max(0.0, 0.02 * max(abs(low), abs(high)) - (high - low)) / 2
    bins = min(BINS, max(4, len(finite) // 2))
    axes.hist(finite, bins, (low - margin, high + margin), color=colour, edgecolor="white", linewidth=1)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def draw_coverage(axes: Axes, counts: Mapping[str, int], wanted: int) -> None:
    """Draw phonemes, the frequent first, with those rarer than `wanted` marked and named."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    names, numbers = [name for name, _ in ranked], [number for _, number in ranked]
    axes.bar(names, numbers, color=[BLUE if number >= wanted else RED for number in numbers], width=0.75)
    rare = [name for name, number in ranked if number < wanted]
    note = (
        f"; fewer than {wanted}: {', '.join(rare)}"
        if rare
        else f"; each at least {min(numbers, default=0)} times"
    )
    for place, number in enumerate(numbers):
        if number < wanted:
            axes.text(place, number, str(number), ha="center", va="bottom", fontsize=8, color=RED)
    axes.set_xlim(-0.7, len(names) - 0.3)
    describe(axes, title=f"phonemes in the clips{note}", y="times")
    axes.tick_params(axis="x", labelsize=8, length=0)
