"""The recorder on a page, for tests: what one sees and does there, and what its microphone hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 44_100  # Hz, of Chromium's fake microphone: a file at this rate comes through unchanged


class RecorderOnPage:
    """What one sees and does.

    Parameters
    ----------
    page
        Playwright's.
    notebook
        What the page shows, for tests that need its kernel.
    """

    def __init__(self, page, notebook=None):
        self.page, self.notebook = page, notebook
        self.root.wait_for()

    @property
    def root(self):
        """The newest: a cell that is run again shows the one before for a moment."""
        return self.page.locator(".vcr").last

    def part(self, name):
        return self.root.locator(f".vcr-{name}")

    def wait(self, **marks):
        """Until the recorder says so: phase, index, state, name."""
        self.page.locator(".vcr" + "".join(f'[data-{key}="{value}"]' for key, value in marks.items())).last.wait_for()

    def key(self, *keys):
        self.root.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def ready(self):
        """Past the check of the room."""
        self.key("Space")
        self.wait(phase="ready")

    def record(self, seconds, key="Space"):
        self.key(key)
        self.wait(phase="recording")
        self.page.wait_for_timeout(1000 * seconds)

    def take(self, seconds, name, key="Space"):
        """A whole take, until it is kept under this name."""
        self.record(seconds, key)
        self.key("Space")
        self.wait(name=name, phase="review")


def write_chirps(path: Path) -> Path:
    """20 s of rising tones that swell like syllables: no moment is like another."""
    t = np.arange(20 * RATE) / RATE
    tones = ((0.3, 140, 2), (0.2, 700, 9), (0.1, 2300, 31))  # amplitude, Hz, Hz/s
    wave = sum(a * np.sin(2 * np.pi * (f * t + k * t * t)) for a, f, k in tones)
    soundfile.write(path, wave * (0.6 + 0.4 * np.sin(2 * np.pi * 3.1 * t)), RATE, subtype="PCM_16")
    return path


def samples_of(path: Path) -> np.ndarray:
    """A take at the microphone's rate, (samples,), 16 bits."""
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    return samples


def matches(heard: np.ndarray, played: np.ndarray) -> list[tuple[float, int]]:
    """Correlation of each whole second with the best place in the file that plays in a loop, and these places."""
    spectrum = np.fft.rfft(played)
    energy = np.cumsum(np.concatenate([[0.0], np.tile(played, 2) ** 2]))
    found = []
    for start in range(0, len(heard) - RATE + 1, RATE):
        second = heard[start : start + RATE]
        products = np.fft.irfft(spectrum * np.conj(np.fft.rfft(second, len(played))), len(played))
        norms = np.sqrt((energy[RATE : RATE + len(played)] - energy[: len(played)]) * np.sum(second**2))
        place = int(np.argmax(products / norms))
        found.append((float(products[place] / norms[place]), place))
    return found


def record_as_played(recorder: RecorderOnPage, takes: Path, played: Path, *, seconds: float = 3.5) -> None:
    """Record until a take is what was played, each second following the last; fail when none of several is.

    Chromium feeds its fake microphone by a timer, which drops a block on a machine that has no time just then. What
    loses sound on the way from page to file would lose it in each take.
    """
    found = []
    for number in range(1, 6):
        recorder.take(seconds, f"0001-{number}.wav", key="Space" if number == 1 else "r")
        heard, wanted = samples_of(takes / f"0001-{number}.wav").astype(float), samples_of(played).astype(float)
        assert len(heard) > (seconds - 0.2) * RATE
        found = matches(heard, wanted)
        steps = {(after - before) % len(wanted) for (_, before), (_, after) in zip(found, found[1:], strict=False)}
        if min(correlation for correlation, _ in found) > 0.99 and steps == {RATE}:
            return
    raise AssertionError(f"no take is as it was played: {found}")
