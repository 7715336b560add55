"""Figures show what they were given: checked through the figure's own objects, against librosa, and as pictures."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from voiceclone import plots
from voiceclone.audio import AudioConfig
from voiceclone.drawing import DECIBELS, RED, band_of

RATE = 22050
RANDOM = np.random.default_rng(0)
TONE = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
MEL = RANDOM.normal(-5, 2, (80, 90)).astype(np.float32)
MEASURES = dict(word_error_rate=0.2, likeness=0.8, opinion_score=3.0)
RESULT = SimpleNamespace(
    voice=SimpleNamespace(**MEASURES),
    natural=SimpleNamespace(word_error_rate=0.1, likeness=0.9, opinion_score=3.5),
    rows=[
        SimpleNamespace(**MEASURES),
        SimpleNamespace(word_error_rate=1.0, likeness=None, opinion_score=None),
    ],
)
STEPS = [
    dict(
        step=step, mel_loss=2.0 / step, gate_loss=0.1, attention_loss=None, learning_rate=1e-3,
        validation={"mel": 1.0, "word_error_rate": 0.5} if step == 10 else {},
    )
    for step in range(1, 21)
]  # fmt: skip
REPORT = SimpleNamespace(
    lengths=(4.0, 5.0), levels=(-23.0, -23.1), snr_db=(40.0, float("inf")), speaking_rate=(11.0, 12.0),
    coverage=SimpleNamespace(counts={"AA": 3, "ZH": 1}),
)  # fmt: skip
FIGURES = {
    "waveform": lambda: plots.waveform(TONE, RATE, title="a tone"),
    "spectrogram": lambda: plots.spectrogram(MEL),
    "take": lambda: plots.take(TONE, RATE),
    "take at 48 kHz": lambda: plots.take(np.tile(TONE, 2), 48000),
    "before_after": lambda: plots.before_after(np.tile(TONE, 3), 2 * RATE, TONE, RATE),
    "mel_comparison": lambda: plots.mel_comparison(MEL, MEL[:, :40]),
    "alignment": lambda: plots.alignment(np.eye(30)[:, :12], ["@HH", " ", ",", "@AH0"] * 3),
    "losses": lambda: plots.losses(STEPS),
    "lengths": lambda: plots.lengths([3.0, 4.0, 5.0]),
    "coverage": lambda: plots.coverage({"AA": 4, "ZH": 0}),
    "dataset": lambda: plots.dataset(REPORT),
    "evaluation": lambda: plots.evaluation(RESULT),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_thousand_pixels_wide_and_cuts_nothing_off(name):
    stream = io.BytesIO()
    FIGURES[name]().savefig(stream, format="rgba")
    pixels = np.frombuffer(stream.getbuffer(), np.uint8).reshape(-1, 1000, 4)[..., :3]
    assert 200 <= len(pixels) <= 800
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all(), "ink on the outermost pixels: something reaches beyond the figure"


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_its_axes(name):
    for axes in FIGURES[name]().axes:
        assert axes.get_ylabel() or axes.get_xlabel() or axes.get_subplotspec().colspan.start > 0


def test_frequency_ticks_lie_where_librosa_puts_the_bands():
    librosa = pytest.importorskip("librosa")
    config = AudioConfig()
    edges = librosa.mel_frequencies(n_mels=config.n_mels + 2, fmin=config.f_min, fmax=config.f_max)
    assert [band_of(hertz, config) for hertz in edges[1:-1]] == pytest.approx(
        np.arange(config.n_mels), abs=1e-6
    )


def test_a_tone_is_brightest_at_its_own_frequency():
    figure = plots.take(TONE, RATE)
    image = figure.axes[1].images[0].get_array()
    assert abs(int(np.argmax(image.mean(axis=1))) - band_of(1000.0)) < 1


def test_spectrogram_shows_decibels_of_the_given_frames():
    image = plots.spectrogram(MEL).axes[0].images[0]
    assert np.allclose(image.get_array(), MEL * DECIBELS)
    assert image.get_extent()[1] == pytest.approx(90 * 256 / 22050)


def test_samples_at_full_scale_are_counted_in_the_figure():
    wave = TONE.copy()
    wave[100:107] = 1.0
    assert "7 samples at full scale" in plots.waveform(wave, RATE).axes[0].get_title(loc="right")
    assert plots.waveform(TONE, RATE).axes[0].get_title(loc="right") == ""


def test_waveform_keeps_a_click_of_one_sample():
    wave = np.zeros(10 * RATE, np.float32)
    wave[54321] = 0.9
    band = plots.waveform(wave, RATE).axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.9)
    assert band[np.argmax(band[:, 1]), 0] == pytest.approx(54321 / RATE, abs=0.01)


def test_alignment_names_symbols_and_thins_out_long_texts():
    short = plots.alignment(np.eye(4), ["@HH", "@AH0", " ", "."]).axes[0]
    assert [tick.get_text() for tick in short.get_yticklabels()] == ["HH", "AH0", "·", "."]
    long = plots.alignment(np.eye(200), ["@AA1"] * 200).axes[0]
    assert len(long.get_yticks()) <= plots.MOST_SYMBOLS


def test_alignment_counts_steps_or_seconds():
    assert plots.alignment(np.eye(10)).axes[0].get_xlabel() == "decoder step"
    timed = plots.alignment(np.eye(10), seconds_per_step=0.5).axes[0]
    assert timed.get_xlabel() == "time (s)" and timed.get_xlim()[1] == pytest.approx(5.0)


def test_losses_leave_out_what_was_not_measured_and_mark_held_out_points():
    curves, heard, _ = plots.losses(STEPS).axes
    assert [text.get_text() for text in curves.get_legend().get_texts()] == ["mel", "gate"]
    assert [line.get_marker() for line in curves.lines].count("o") == 1  # mel on held-out clips
    assert heard.lines[0].get_xydata().tolist() == [[10, 50]]
    assert len(plots.losses(STEPS[:5]).axes) == 2


def test_losses_may_be_drawn_before_the_first_step():
    assert plots.losses([]).axes[0].lines[:] == []


def test_rare_phonemes_are_marked_and_named():
    axes = plots.coverage({"AA": 4, "ZH": 1, "OY": 0}).axes[0]
    assert "fewer than 2: ZH, OY" in axes.get_title(loc="left")
    from matplotlib.colors import to_hex

    assert [to_hex(bar.get_facecolor()).upper() for bar in axes.patches][1:] == [RED, RED]


def test_evaluation_shows_both_means_and_the_measured_sentences():
    errors, likeness, opinion = plots.evaluation(RESULT).axes
    assert [bar.get_height() for bar in errors.patches] == pytest.approx([20.0, 10.0])
    assert [text.get_text() for text in likeness.texts] == ["0.8", "0.9"]
    assert len(errors.collections[0].get_offsets()) == 2 and len(opinion.collections[0].get_offsets()) == 1


def test_figures_are_drawn_without_pyplot():
    code = (
        "import io, sys, numpy as np; from voiceclone import plots;"
        "plots.waveform(np.zeros(99), 22050).savefig(io.BytesIO()); assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_nearly_equal_values_are_not_spread_over_the_axis():
    axes = plots.lengths([5.0, 5.0 + 1e-9, 5.0 - 1e-9, 5.0]).axes[0]
    assert axes.get_xlim()[1] - axes.get_xlim()[0] > 0.05
    assert plots.lengths([]).axes[0].get_xlabel() == "duration (s)"
