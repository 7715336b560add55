"""Every figure of the suite, drawn from arrays and returned as a matplotlib `Figure`.

Figures are built without pyplot, so nothing global is touched and a widget's thread may draw one. All share one
look: a white ground in light and dark pages, colours that colour-blind readers tell apart (Okabe and Ito's), and
axes in s, kHz and dB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .audio import AudioConfig
from .drawing import (
    BLUE,
    DECIBELS,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    describe,
    draw_coverage,
    draw_histogram,
    draw_mel,
    draw_wave,
    mel_of,
    new_figure,
    scale_bar,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .clean import DatasetReport
    from .evaluate import Evaluation
    from .train import Step

MOST_SYMBOLS = 45  # more symbols than this get every second one a label, and so on


# Sound ------------------------------------------------------------------------------------------------------------


def waveform(wave: np.ndarray, sample_rate: int, *, title: str = "") -> Figure:
    """Sound pressure over time; samples at full scale, where a recording clips, are marked.

    Parameters
    ----------
    wave : np.ndarray
        Shape (samples,), within -1 to 1.
    sample_rate : int
        Hz.
    """
    figure = new_figure(2.2)
    axes = figure.subplots()
    draw_wave(axes, wave, sample_rate)
    describe(axes, title=title, x="time (s)", y="amplitude")
    return figure


def spectrogram(mel: np.ndarray, *, config: AudioConfig = AudioConfig(), title: str = "") -> Figure:
    """A log-mel spectrogram.

    Parameters
    ----------
    mel : np.ndarray
        Shape (n_mels, frames), natural logarithm of magnitude.
    config : AudioConfig
        What the frames and bands mean.
    """
    figure = new_figure(2.8)
    axes = figure.subplots()
    scale_bar(figure, axes, draw_mel(axes, mel, config), "level (dB)")
    describe(axes, title=title, x="time (s)", y="frequency (kHz)")
    return figure


def take(wave: np.ndarray, sample_rate: int, *, title: str = "") -> Figure:
    """Waveform and log-mel spectrogram of a recording, one above the other.

    Parameters
    ----------
    wave : np.ndarray
        Shape (samples,), at any rate.
    sample_rate : int
        Hz.
    """
    figure = new_figure(4.4)
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 3))
    draw_wave(above, wave, sample_rate)
    describe(above, title=title, y="amplitude")
    config = AudioConfig()
    scale_bar(figure, below, draw_mel(below, mel_of(wave, sample_rate, config), config), "level (dB)")
    describe(below, x="time (s)", y="frequency (kHz)")
    below.set_xlim(0, len(wave) / sample_rate)
    return figure


def before_after(
    before: np.ndarray,
    before_rate: int,
    after: np.ndarray,
    after_rate: int,
    *,
    titles: tuple[str, str] = ("as recorded", "cleaned"),
) -> Figure:
    """Waveforms and spectrograms of a clip before and after cleaning, on the same scales.

    Parameters
    ----------
    before, after : np.ndarray
        Shape (samples,).
    before_rate, after_rate : int
        Hz.
    titles : tuple of str
        What stands above the left and the right column.
    """
    config = AudioConfig()
    figure = new_figure(4.6)
    waves = ((before, before_rate), (after, after_rate))
    longest = max(len(wave) / rate for wave, rate in waves)
    widths = [
        max(0.4, len(wave) / rate / longest) for wave, rate in waves
    ]  # a second is as wide on both sides
    grid = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=(2, 3), width_ratios=widths)
    mels = [mel_of(wave, rate, config) for wave, rate in waves]
    top = max(float(mel.max(initial=-math.inf)) for mel in mels) * DECIBELS
    for column, ((wave, rate), mel, title) in enumerate(zip(waves, mels, titles, strict=True)):
        left = column == 0
        draw_wave(grid[0, column], wave, rate)
        describe(grid[0, column], title=title, y="amplitude" if left else "")
        image = draw_mel(grid[1, column], mel, config, top=top)
        describe(grid[1, column], x="time (s)", y="frequency (kHz)" if left else "")
        grid[1, column].set_xlim(0, len(wave) / rate)
    scale_bar(figure, grid[1, :], image, "level (dB)")
    return figure


def mel_comparison(predicted: np.ndarray, true: np.ndarray, *, config: AudioConfig = AudioConfig()) -> Figure:
    """The predicted and the recorded log-mel spectrogram of one sentence, on the same scales.

    Parameters
    ----------
    predicted, true : np.ndarray
        Shape (n_mels, frames); the numbers of frames may differ.
    """
    figure = new_figure(4.4)
    rows = figure.subplots(2, sharex=True, sharey=True)
    top = max(float(true.max(initial=-math.inf)), float(predicted.max(initial=-math.inf))) * DECIBELS
    for axes, mel, title in zip(rows, (predicted, true), ("predicted", "recorded"), strict=True):
        image = draw_mel(axes, mel, config, top=top)
        describe(axes, title=title, y="frequency (kHz)")
    rows[1].set_xlabel("time (s)")
    scale_bar(figure, rows, image, "level (dB)")
    rows[1].set_xlim(0, max(true.shape[1], predicted.shape[1]) / config.frames_per_second)
    return figure


# The model --------------------------------------------------------------------------------------------------------


def alignment(
    weights: np.ndarray,
    symbols: Sequence[str] = (),
    *,
    seconds_per_step: float | None = None,
    title: str = "",
) -> Figure:
    """Which symbol the decoder attends to at each step: a rising line when speech goes through the text in order.

    Parameters
    ----------
    weights : np.ndarray
        Shape (decoder steps, symbols), each row adds up to 1.
    symbols : sequence of str
        Names of the symbols, first to last, for the labels.
    seconds_per_step : float, optional
        Duration of a decoder step; without it the axis counts steps.
    """
    from matplotlib.colors import PowerNorm

    steps, count = weights.shape
    figure = new_figure(min(4.8, max(3.6, 1.4 + 0.105 * count)))
    axes = figure.subplots()
    unit = seconds_per_step or 1.0
    image = axes.imshow(
        weights.T, origin="lower", aspect="auto", cmap="Blues", norm=PowerNorm(0.6, 0, 1),
        interpolation="nearest", extent=(0, steps * unit, -0.5, count - 0.5),
    )  # fmt: skip
    scale_bar(figure, axes, image, "attention")
    describe(axes, title=title, x="time (s)" if seconds_per_step else "decoder step", y="symbol")
    if symbols:
        _symbol_ticks(axes, symbols)
    axes.grid(False)
    return figure


def losses(steps: Sequence[Step | Mapping[str, Any]]) -> Figure:
    """Training and validation losses over steps, the words heard wrong in previews, and the learning rate.

    Parameters
    ----------
    steps : sequence of Step, or of the log's rows
        Their fields ``step``, ``mel_loss`` (``gate_``, ``attention_``, ``pitch_``), ``learning_rate``, ``validation``.
    """
    heard = _validated(steps, "word_error_rate")
    heights = (4, 1.4, 1) if heard else (4, 1)
    figure = new_figure(5.2)  # with a panel more in it or not: a page that shows it must not move
    above, *between, below = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    at = np.array(_column(steps, "step"), dtype=float)
    for name, colour in (("mel", BLUE), ("attention", ORANGE), ("pitch", PURPLE), ("gate", GREEN)):
        values = np.array(
            [math.nan if value is None else value for value in _column(steps, f"{name}_loss")], dtype=float
        )
        if np.nanmax(values, initial=0.0) > 0:
            above.plot(at, values, color=colour, alpha=0.25, linewidth=0.8)
            above.plot(at, _smooth(values), color=colour, linewidth=1.8, label=name)
        if held_out := _validated(steps, name):
            above.plot(*held_out, "o-", color=colour, markersize=4, linewidth=0.8)
    if above.lines:
        above.set_yscale("log")
        above.legend(frameon=False, ncols=6, loc="lower right", bbox_to_anchor=(1, 1), fontsize=9)
    describe(above, title="losses (dots: held-out clips)", y="loss")
    for axes in between:
        axes.plot(heard[0], 100 * np.array(heard[1]), "o-", color=PURPLE, markersize=4, linewidth=1.2)
        axes.set_ylim(-5, max(105.0, 105 * max(heard[1])))
        describe(axes, title="words heard wrong in spoken previews", y="%")
    below.plot(at, _column(steps, "learning_rate"), color=FAINT, linewidth=1.4)
    below.yaxis.set_major_formatter("{x:g}")
    below.set_ylim(bottom=0)
    describe(below, title="learning rate", x="step", y="rate")
    return figure


# The data and the result ------------------------------------------------------------------------------------------


def lengths(seconds: Sequence[float], *, title: str = "length of the clips") -> Figure:
    """How many clips are how long.

    Parameters
    ----------
    seconds : sequence of float
        Duration of each clip, s.
    """
    figure = new_figure(2.6)
    axes = figure.subplots()
    draw_histogram(axes, seconds, BLUE)
    describe(axes, title=title, x="duration (s)", y="clips")
    return figure


def coverage(counts: Mapping[str, int], *, wanted: int = 2) -> Figure:
    """How often each phoneme is spoken in the clips.

    Parameters
    ----------
    counts : mapping of str to int
        Times that each ARPAbet phoneme occurs.
    wanted : int
        Phonemes rarer than this are marked.
    """
    figure = new_figure(2.8)
    draw_coverage(figure.subplots(), counts, wanted)
    return figure


def dataset(report: DatasetReport) -> Figure:
    """Lengths, loudness, noise, speaking rate and phonemes of the cleaned clips.

    Parameters
    ----------
    report : DatasetReport
        What `voiceclone.clean.dataset_report` measured.
    """
    figure = new_figure(5.2)
    grid = figure.add_gridspec(2, 4)
    panels = (
        ("length", "duration (s)", report.lengths, BLUE),
        ("loudness", "loudness (LUFS)", report.levels, ORANGE),
        ("speech over noise", "ratio (dB)", report.snr_db, GREEN),
        ("speaking rate", "phonemes a second", report.speaking_rate, PURPLE),
    )
    for column, (title, x, values, colour) in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        draw_histogram(axes, values, colour)
        describe(axes, title=title, x=x, y="" if column else "clips")
    draw_coverage(figure.add_subplot(grid[1, :]), report.coverage.counts, 2)
    return figure


def evaluation(result: Evaluation) -> Figure:
    """The clone beside natural clips of the same voice: words, likeness, opinion; a dot for each sentence.

    Parameters
    ----------
    result : Evaluation
        What `voiceclone.evaluate.evaluate` measured.
    """
    figure = new_figure(2.9)
    panels = (
        ("word errors (less is better)", "word_error_rate", "%", 100.0, None),
        ("likeness (1 is the same voice)", "likeness", "cosine", 1.0, 1.0),
        ("predicted opinion (5 is best)", "opinion_score", "score, 1 to 5", 1.0, 5.0),
    )
    for axes, (title, name, unit, scale, limit) in zip(figure.subplots(1, 3), panels, strict=True):
        means = [getattr(measures, name) * scale for measures in (result.voice, result.natural)]
        axes.bar(("clone", "natural"), means, color=(BLUE, ORANGE), width=0.6)
        dots = [value * scale for row in result.rows if (value := getattr(row, name)) is not None]
        axes.scatter(
            np.linspace(-0.22, 0.22, len(dots)), dots, s=10, color=INK, alpha=0.5, linewidths=0, zorder=3
        )
        top = limit or max(1.0, *means, *dots)
        for place, mean in enumerate(means):
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
            axes.text(
                place, 0.05, f"{mean:.3g}", ha="center", color=INK, fontsize=10, bbox=box, zorder=4,
                transform=axes.get_xaxis_transform(),  # x in data, y as a part of the axes' height
            )  # fmt: skip
        axes.set_ylim(1.0 if limit == 5.0 else 0.0, top * 1.05)
        describe(axes, title=title, y=unit)
    return figure


# Helpers of one figure each ----------------------------------------------------------------------------------


def _symbol_ticks(axes: Axes, symbols: Sequence[str]) -> None:
    every = math.ceil(len(symbols) / MOST_SYMBOLS)
    names = ["·" if name == " " else name.removeprefix("@") for name in symbols]
    axes.set_yticks(range(0, len(names), every), names[::every], fontsize=7 if len(names) > 30 else 9)


def _column(rows: Sequence[Any], name: str) -> list[Any]:
    return [row.get(name) if isinstance(row, Mapping) else getattr(row, name) for row in rows]


def _smooth(values: np.ndarray, *, over: int = 25) -> np.ndarray:
    """Mean of up to `over` values that end with each one."""
    sums = np.concatenate(([0.0], np.cumsum(np.nan_to_num(values))))
    counts = np.concatenate(([0], np.cumsum(~np.isnan(values))))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - over)
    return (sums[last] - sums[first]) / np.maximum(1, counts[last] - counts[first])


def _validated(steps: Sequence[Any], name: str) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """Steps at which something was measured on held-out clips, and the values; None if it never was."""
    rows = zip(_column(steps, "step"), _column(steps, "validation"), strict=True)
    points = [(step, found[name]) for step, found in rows if found and found.get(name) is not None]
    return tuple(zip(*points, strict=True)) if points else None
