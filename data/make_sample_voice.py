"""Make the takes of the sample voice out of clean speech: a room, a laptop's microphone and two mistakes.

    python data/make_sample_voice.py CLEAN [--out data/sample_voice/takes]

CLEAN holds 0001.wav ... 0025.wav, the project's prompts spoken cleanly, and misread.wav, one of them read wrongly.
Every random choice comes from one seed, so the same clean speech gives the same takes.
"""

# ruff: noqa: T201  (a command: it prints what it does)

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

SAMPLE_RATE = 44_100  # Hz, a laptop's
LEVEL = -24.0  # dBFS RMS of the speech, about which the takes differ
LEVEL_SPREAD = 4.0  # dB either way
NOISE_BELOW_SPEECH = (40.0, 45.0)  # dB
HUM = 50.0  # Hz, of the mains
HUM_BELOW_NOISE = 6.0  # dB
SILENCE = (0.3, 1.0)  # s before and after the speech
OVERDRIVE = 18.0  # dB of the clipped take
CLIPPED, MISREAD = 9, 18  # prompts whose first take is bad; their second is good


def room_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Pinkish noise with a faint hum, RMS 1.

    Parameters
    ----------
    samples : int
        Length at SAMPLE_RATE.
    rng : np.random.Generator
        Where the noise comes from.

    Returns
    -------
    np.ndarray
        (samples,) float64
    """
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(frequencies, 40.0))  # power falls with frequency, as a quiet room's does
    noise = np.fft.irfft(spectrum, samples)
    noise /= rms(noise)
    time = np.arange(samples) / SAMPLE_RATE
    hum = sum(np.sin(2 * np.pi * HUM * k * time + rng.uniform(0, 2 * np.pi)) / k for k in (1, 2, 3, 5))
    noise += hum / rms(hum) * decibels(-HUM_BELOW_NOISE)
    return noise / rms(noise)


def rms(wave: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(wave))))


def decibels(level: float) -> float:
    """Factor of amplitude."""
    return 10 ** (level / 20)


def take(speech: np.ndarray, rng: np.random.Generator, *, overdrive: float = 0.0) -> np.ndarray:
    """One take of clean speech at SAMPLE_RATE.

    Parameters
    ----------
    speech : np.ndarray
        (samples,) any level.
    rng : np.random.Generator
        Chooses silences, level and noise.
    overdrive : float
        dB by which the microphone was turned up too far; what does not fit is clipped.

    Returns
    -------
    np.ndarray
        (samples,) within [-1, 1]
    """
    before, after = (int(seconds * SAMPLE_RATE) for seconds in rng.uniform(*SILENCE, size=2))
    level = LEVEL + rng.uniform(-LEVEL_SPREAD, LEVEL_SPREAD)
    speech = speech * decibels(level) / rms(speech)
    noise = room_noise(before + len(speech) + after, rng) * decibels(level - rng.uniform(*NOISE_BELOW_SPEECH))
    noise[before:before + len(speech)] += speech
    loudest = np.abs(noise).max()
    if overdrive:
        return np.clip(noise * decibels(overdrive), -1.0, 1.0)
    return noise * min(1.0, 0.9 / loudest)  # a good take does not clip


def clean_speech(path: Path) -> np.ndarray:
    """(samples,) at SAMPLE_RATE."""
    wave, rate = sf.read(path, dtype="float64")
    return soxr.resample(wave, rate, SAMPLE_RATE, quality="VHQ")


def main() -> None:
    """Write every take as 16-bit FLAC."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clean", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "sample_voice" / "takes")
    parser.add_argument("--seed", type=int, default=25)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.clean.glob("[0-9]*.wav")):
        number = int(path.stem)
        rng = np.random.default_rng([args.seed, number])  # one clip's take does not depend on the others
        takes = [take(clean_speech(path), rng)]
        if number == CLIPPED:
            takes.insert(0, take(clean_speech(path), rng, overdrive=OVERDRIVE))
        if number == MISREAD:
            takes.insert(0, take(clean_speech(args.clean / "misread.wav"), rng))
        for k, wave in enumerate(takes, 1):
            sf.write(args.out / f"{number:04d}-{k}.flac", wave, SAMPLE_RATE, subtype="PCM_16")
            print(f"{number:04d}-{k}.flac  {len(wave) / SAMPLE_RATE:.2f} s  {20 * np.log10(rms(wave)):.1f} dBFS")


if __name__ == "__main__":
    main()
