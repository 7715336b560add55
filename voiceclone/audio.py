"""Sound files and the one log-mel spectrogram that training, vocoder and evaluation share."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import AudioError
from .files import atomic_write, text_hash

if TYPE_CHECKING:
    import torch

LOG_FLOOR = 1e-5  # magnitudes below it count as silence: ln(1e-5) = -11.5 (NVIDIA/tacotron2, audio_processing.py)
STREAM_SIZE = 0x7FFF0000  # bytes; a wav file that says so or more was written as a stream: its length is not known
SAVED_AS = {"WAV": "PCM_16", "FLAC": "PCM_16", "OGG": "VORBIS"}
SILENCE_DBFS = -120.0  # what digital silence is said to measure, instead of minus infinity


@dataclass(frozen=True)
class AudioConfig:
    """How sound becomes a mel spectrogram. Defaults are NVIDIA's, which FakeYou and HiFi-GAN share.

    One second is 22050 / 256 = 86.13 frames.
    """

    sample_rate: int = 22050  # Hz
    n_fft: int = 1024  # samples
    hop_length: int = 256  # samples between frames
    win_length: int = 1024  # samples, periodic Hann
    n_mels: int = 80  # bands, Slaney's scale and area normalisation
    f_min: float = 0.0  # Hz
    f_max: float = 8000.0  # Hz

    def __post_init__(self) -> None:
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise AudioError(
                f"f_min={self.f_min} and f_max={self.f_max} Hz must rise and stay under half the sample rate "
                f"({self.sample_rate / 2} Hz)."
            )
        if not 0 < self.hop_length <= self.win_length <= self.n_fft:
            raise AudioError(
                f"hop_length={self.hop_length} <= win_length={self.win_length} <= n_fft={self.n_fft} does not hold."
            )

    @property
    def frames_per_second(self) -> float:
        """Mel frames in one second."""
        return self.sample_rate / self.hop_length


def load(path: str | Path, *, sample_rate: int | None = 22050) -> tuple[np.ndarray, int]:
    """Read any sound file as mono.

    wav, flac, ogg and mp3 are read by libsndfile; m4a and whatever else ffmpeg knows, where it is installed.

    Parameters
    ----------
    path : str or Path
        The file.
    sample_rate : int or None
        Hz to resample to; None keeps the file's own rate.

    Returns
    -------
    wave : np.ndarray, shape (samples,)
        float32, full scale is 1; channels are averaged.
    sample_rate : int
        Hz of `wave`.

    Raises
    ------
    AudioError
        If the file is missing, is no sound, holds no samples, is cut short or holds values that are not numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"There is no file {path}. Check its name, or record the clip again.")
    wave, rate = _read(path)
    if wave.size == 0:
        raise AudioError(f"{path} holds no samples (0 s of sound). Record or export it again.")
    if not np.isfinite(wave).all():
        wrong = np.count_nonzero(~np.isfinite(wave))
        raise AudioError(f"{path} holds {wrong} values that are not numbers. Export it again.")
    wave = wave.mean(axis=1)
    if sample_rate is None:
        return wave, rate
    return resample(wave, rate, sample_rate), sample_rate


def _read(path: Path) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            promised = file.frames
            wave = file.read(dtype="float32", always_2d=True)  # (samples, channels)
            rate = file.samplerate
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: it takes a name.raw for sound without header
        return _read_with_ffmpeg(path, error)
    if path.suffix.lower() == ".wav":
        promised = max(promised, _promised_samples(path))
    if len(wave) < promised:
        raise AudioError(
            f"{path} is cut short: its header promises {promised / rate:.2f} s, it holds {len(wave) / rate:.2f} s. "
            "Copy or export it again."
        )
    return wave, rate


def _promised_samples(path: Path) -> int:
    """Samples that a wav file's header promises, whatever the file holds; 0 where the header cannot say."""
    block = 0  # bytes of one sample of all channels
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return 0
        while len(header := file.read(8)) == 8:  # chunk by chunk: tags may hold the word "data" too
            size = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":
                return size // block if block and size < STREAM_SIZE else 0
            start = file.tell()
            if header[:4] == b"fmt ":
                block = int.from_bytes(file.read(14)[12:], "little")
            file.seek(start + size + size % 2)
    return 0


def _read_with_ffmpeg(path: Path, error: Exception) -> tuple[np.ndarray, int]:
    import shutil
    import subprocess
    import tempfile

    import soundfile

    complaint = (
        f"{path} is not a sound file that can be read here ({error}). "
        "Expected wav, flac, ogg or mp3 (m4a too where ffmpeg is installed). Convert it and try again."
    )
    if shutil.which("ffmpeg") is None:
        raise AudioError(complaint) from error
    with tempfile.TemporaryDirectory() as folder:
        decoded = Path(folder, "decoded.wav")
        source = f"file:{path}"  # a colon in a name is not a protocol
        command = ["ffmpeg", "-v", "error", "-i", source, "-vn", "-c:a", "pcm_f32le", str(decoded)]
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if result.returncode != 0 or not decoded.exists():
            raise AudioError(complaint) from error
        if result.stderr.strip():  # ffmpeg goes on after what it cannot decode, and calls that success
            raise AudioError(
                f"{path} is damaged or cut short (ffmpeg: {result.stderr.strip().splitlines()[0]}). "
                "Copy or export it again."
            )
        return soundfile.read(decoded, dtype="float32", always_2d=True)


def save(path: str | Path, wave: np.ndarray, sample_rate: int = 22050) -> Path:
    """Write mono 16-bit sound, whole or not at all; the suffix says the format (wav, flac, ogg).

    Parameters
    ----------
    path : str or Path
        The file to write.
    wave : np.ndarray, shape (samples,)
        Full scale is 1.
    sample_rate : int
        Hz.

    Raises
    ------
    AudioError
        If the wave is empty, holds values that are not numbers, or exceeds full scale, or the suffix is another.
    """
    import soundfile

    kind = Path(path).suffix.lstrip(".").upper() or "WAV"
    if kind not in SAVED_AS:
        raise AudioError(f"Cannot save to {path}: sound is written as .wav, .flac or .ogg. Name the file so.")
    wave = np.asarray(wave, dtype=np.float32)
    if wave.ndim != 1 or wave.size == 0:
        raise AudioError(f"Cannot save a wave of shape {wave.shape} to {path}: expected (samples,) with at least one.")
    if not np.isfinite(wave).all():
        raise AudioError(f"Cannot save to {path}: the wave holds values that are not numbers.")
    peak = float(np.abs(wave).max())
    if peak > 1.0:
        raise AudioError(f"Cannot save to {path}: the wave peaks at {peak:.3f}, full scale is 1. Lower its level.")
    encoded = io.BytesIO()  # in memory first: libsndfile does not say when a disk is full
    with soundfile.SoundFile(encoded, "w", sample_rate, 1, format=kind, subtype=SAVED_AS[kind]) as sound:
        for start in range(0, wave.size, sample_rate):  # libsndfile crashes on a minute of ogg in one piece
            sound.write(wave[start : start + sample_rate])
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())
    return Path(path)


def sound_hash(path: str | Path) -> str:
    """16 hexadecimal digits of a sound file's samples and rate: its tags do not change it, as they do `file_hash`."""
    wave, rate = load(path, sample_rate=None)
    return text_hash(rate, hashlib.sha256(wave.tobytes()).hexdigest())


def resample(wave: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample (samples,) from one rate to another, both in Hz, with soxr at high quality."""
    if from_rate == to_rate:
        return wave
    import soxr

    return soxr.resample(wave, from_rate, to_rate, quality="HQ").astype(np.float32)


def dbfs(amplitude: float | np.ndarray) -> float | np.ndarray:
    """Decibels relative to full scale of an amplitude; never below -120."""
    return 20 * np.log10(np.maximum(np.abs(amplitude), 10 ** (SILENCE_DBFS / 20)))


def log_mel(wave: np.ndarray | torch.Tensor, config: AudioConfig = AudioConfig()) -> torch.Tensor:
    """Log-mel spectrogram, equal to NVIDIA's: centred frames, magnitudes, natural logarithm, floor 1e-5.

    Parameters
    ----------
    wave : np.ndarray or torch.Tensor, shape (samples,) or (batch, samples)
        Sound at ``config.sample_rate``, full scale 1. At least ``n_fft // 2 + 1`` samples.
    config : AudioConfig
        Sizes of the transform.

    Returns
    -------
    torch.Tensor, shape (batch, n_mels, frames)
        ``frames = samples // hop_length + 1``; frame t is centred on sample ``t * hop_length``.

    Raises
    ------
    AudioError
        If the wave is too short to be mirrored at its ends.
    """
    import torch

    wave = torch.as_tensor(wave).double()  # a float32 FFT errs by 3e-4 in deep spectral valleys
    wave = wave.unsqueeze(0) if wave.ndim == 1 else wave
    if wave.shape[-1] <= config.n_fft // 2:
        raise AudioError(
            f"{wave.shape[-1]} samples are too few for a spectrogram: at least {config.n_fft // 2 + 1} are needed "
            f"({(config.n_fft // 2 + 1) / config.sample_rate:.3f} s)."
        )
    window = torch.hann_window(config.win_length, dtype=wave.dtype, device=wave.device)
    spectrum = torch.stft(
        wave,
        config.n_fft,
        config.hop_length,
        config.win_length,
        window=window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )  # (batch, n_fft // 2 + 1, frames)
    mel = torch.from_numpy(_mel_basis(config)).to(wave) @ spectrum.abs()
    return mel.clamp(min=LOG_FLOOR).log().float()


@cache
def _mel_basis(config: AudioConfig) -> np.ndarray:
    """(n_mels, n_fft // 2 + 1) float32, librosa's: Slaney's scale and area normalisation."""
    import librosa

    return librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max
    )
