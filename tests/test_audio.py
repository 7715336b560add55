"""Sound files: what other programs read is what is read here, and what is written is what they read."""

from __future__ import annotations

import shutil
import struct
import subprocess
import wave as wave_module
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal
import soundfile

from voiceclone.audio import AudioConfig, dbfs, load, log_mel, resample, save, sound_hash
from voiceclone.errors import AudioError

RATE = 22050
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def tone(frequency=440.0, *, seconds=0.5, rate=RATE, level=0.5):
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def loudest_frequency(wave, rate):
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return np.fft.rfftfreq(len(wave), 1 / rate)[spectrum.argmax()]


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav(samples, *before, size=None):
    """A wav file by the letter of the format: chunks `before` its data, whose header may say another size."""
    data = chunk(b"data", samples.astype("<i2").tobytes())
    if size is not None:
        data = data[:4] + struct.pack("<I", size) + data[8:]
    body = b"WAVE" + chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)) + b"".join(before) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


SAMPLES = (tone() * 32768).astype(np.int16)

# Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_wav_of_any_width_is_what_scipy_wrote(tmp_path, dtype):
    wave = tone()
    kind = np.dtype(dtype)
    if kind.kind == "f":
        stored = wave.astype(kind)
        truth = stored
    else:
        half = 2.0 ** (8 * kind.itemsize - 1)
        offset = half if kind.kind == "u" else 0
        stored = np.round(wave.astype(np.float64) * half + offset).astype(kind)
        truth = (stored.astype(np.float64) - offset) / half
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, stored)
    read, rate = load(tmp_path / "a.wav")
    assert rate == RATE and read.dtype == np.float32
    np.testing.assert_allclose(read, truth, atol=1e-7)


def test_24_bit_wav_is_what_pythons_wave_module_wrote(tmp_path):
    steps = np.round(tone() * 2**23).astype("<i4")
    with wave_module.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, RATE, 0, "NONE", ""))
        file.writeframes(steps.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    np.testing.assert_allclose(load(tmp_path / "a.wav")[0], steps / 2**23, atol=1e-7)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_compressed_sound_is_what_librosa_reads(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", np.stack([tone(), tone(660)], 1), RATE)
    truth, _ = librosa.load(tmp_path / f"a.{suffix}", sr=None, mono=True)
    np.testing.assert_allclose(load(tmp_path / f"a.{suffix}")[0], truth, atol=1e-6)
    assert abs(len(truth) - RATE // 2) < 2400


def test_channels_are_averaged(tmp_path):
    left, right = tone(), tone(660, level=0.25)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right, np.zeros_like(left)], 1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(load(tmp_path / "a.wav")[0], (left + right) / 3, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000, 96000])
def test_any_rate_is_resampled_to_the_one_asked_for(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1000, rate=rate), rate, subtype="FLOAT")
    own, own_rate = load(tmp_path / "a.wav", sample_rate=None)
    assert own_rate == rate and np.array_equal(own, tone(1000, rate=rate))
    read, read_rate = load(tmp_path / "a.wav")
    assert read_rate == RATE and len(read) == pytest.approx(RATE / 2, abs=1)
    middle = slice(2000, 9000)
    np.testing.assert_allclose(read[middle], tone(1000)[: len(read)][middle], atol=2e-3)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "Take 1: again.m4a", "-i.m4a"])
def test_what_ffmpeg_knows_is_read_too(tmp_path, monkeypatch, name):
    soundfile.write(tmp_path / "a.wav", tone(1000, seconds=1), RATE)
    encode(tmp_path / "a.wav", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    read, _ = load(name)
    assert len(read) == pytest.approx(RATE, abs=2048)
    assert loudest_frequency(read[2000:20000], RATE) == pytest.approx(1000, abs=2)
    assert np.abs(read[5000:15000]).max() == pytest.approx(0.5, abs=0.05)


def encode(source, target, *options):
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", source, *options, f"file:{target}"], check=True)


def test_without_ffmpeg_an_m4a_is_refused_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(AudioError, match=r"a\.m4a .*ffmpeg.*Convert it"):
        load(tmp_path / "a.m4a")


def test_a_wav_whose_tags_speak_of_data_is_read(tmp_path):
    comment = chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"my data and fmt of old"))
    (tmp_path / "a.wav").write_bytes(wav(SAMPLES, comment))
    assert np.array_equal(load(tmp_path / "a.wav")[0], SAMPLES / np.float32(32768))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000], ids=["ffmpeg", "sox"])
def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path, size):
    (tmp_path / "a.wav").write_bytes(wav(SAMPLES, size=size))
    assert len(load(tmp_path / "a.wav")[0]) == len(SAMPLES)


# What is cut short ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", chunk(b"JUNK", bytes(6001))], ids=["plain", "after-a-long-chunk"])
@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_a_truncated_wav_says_how_much_is_there(tmp_path, before, keep):
    whole = wav(SAMPLES, before)
    missing = 2 * int((1 - keep) * len(SAMPLES))
    (tmp_path / "a.wav").write_bytes(whole[:-missing])
    with pytest.raises(AudioError, match=rf"a\.wav is cut short: .*promises 0\.50 s.*holds {0.5 * keep:.1f}"):
        load(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_truncated_compressed_sound_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(seconds=2), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=path.name):
        load(path)


@needs_ffmpeg
def test_a_truncated_m4a_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(seconds=2), RATE)
    path = tmp_path / "a.m4a"
    encode(tmp_path / "a.wav", path, "-movflags", "+faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=r"a\.m4a is damaged or cut short"):
        load(path)


@pytest.mark.parametrize("name", ["a.wav", "a.raw", "a.mp3", "a"])
def test_what_is_no_sound_is_refused_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(range(256)) * 4)
    with pytest.raises(AudioError, match="Convert it"):
        load(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AudioError, match="no file .*nowhere"):
        load(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match="no file"):
        load(tmp_path)


# Writing ----------------------------------------------------------------------------------------------------------


def test_saved_wav_is_read_sample_for_sample_by_pythons_wave_module(tmp_path):
    every = np.arange(-32768, 32768)
    save(tmp_path / "a.wav", every / 32768, 16000)
    with wave_module.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert np.array_equal(np.frombuffer(file.readframes(1 << 20), "<i2"), every)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_load_and_save_undo_each_other(tmp_path, suffix):
    wave = SAMPLES / np.float32(32768)
    save(tmp_path / f"a.{suffix}", wave)
    assert np.array_equal(load(tmp_path / f"a.{suffix}")[0], wave)


def test_a_minute_of_ogg_is_written_whole(tmp_path):
    save(tmp_path / "a.ogg", np.tile(tone(seconds=1), 60))
    info = soundfile.info(tmp_path / "a.ogg")
    assert (info.frames, info.subtype) == (60 * RATE, "VORBIS")


def test_full_scale_never_wraps(tmp_path):
    save(tmp_path / "a.wav", np.array([1.0, -1.0, 0.99999]))
    assert scipy.io.wavfile.read(tmp_path / "a.wav")[1].tolist() == [32767, -32768, 32767]


@pytest.mark.parametrize(
    ("wave", "word"),
    [
        (np.array([0.0, 1.001]), "full scale"),
        (np.array([0.0, -1.001]), "full scale"),
        (SAMPLES, "full scale"),
        (np.array([0.0, np.nan]), "not numbers"),
        (np.array([0.0, np.inf]), "not numbers"),
        (np.zeros(0), "at least one"),
        (np.zeros((2, 100)), r"\(2, 100\)"),
    ],
    ids=["above", "below", "integers", "nan", "infinite", "empty", "stereo"],
)
def test_what_cannot_be_sound_is_refused_and_the_old_file_stays(tmp_path, wave, word):
    save(tmp_path / "a.wav", tone())
    before = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(AudioError, match=word):
        save(tmp_path / "a.wav", wave)
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.txt", "a.raw"])
def test_a_suffix_that_is_not_written_is_refused_with_those_that_are(tmp_path, name):
    with pytest.raises(AudioError, match=r"\.wav, \.flac or \.ogg"):
        save(tmp_path / name, tone())
    assert not list(tmp_path.iterdir())


# Rates and levels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 22050), (48000, 22050), (16000, 22050), (22050, 16000)])
def test_resampling_keeps_a_tones_frequency_and_level(from_rate, to_rate):
    wave = resample(tone(3000, seconds=1, rate=from_rate), from_rate, to_rate)
    assert wave.dtype == np.float32 and len(wave) == to_rate
    assert loudest_frequency(wave, to_rate) == pytest.approx(3000, abs=1)
    assert np.sqrt(np.mean(wave[1000:-1000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


def test_resampling_equals_scipys_within_the_band_and_folds_nothing_back():
    noise = np.random.default_rng(0).normal(0, 0.1, 44100)
    low = scipy.signal.sosfiltfilt(scipy.signal.butter(12, 6000, fs=44100, output="sos"), noise).astype(np.float32)
    truth = scipy.signal.resample_poly(low, 1, 2, window=("kaiser", 12.0))
    np.testing.assert_allclose(resample(low, 44100, 22050)[500:-500], truth[500:-500], atol=2e-3)
    too_high = resample(tone(15000, seconds=1, rate=44100), 44100, 22050)
    assert dbfs(np.abs(too_high[500:-500]).max()) < -90


def test_the_same_rate_changes_nothing():
    wave = tone()
    assert resample(wave, RATE, RATE) is wave


def test_dbfs_is_twenty_log_ten_with_a_floor():
    assert dbfs(1.0) == 0
    assert dbfs(-0.5) == pytest.approx(-6.0206, abs=1e-4)
    np.testing.assert_allclose(dbfs(np.array([0.1, 0.0])), [-20, -120])


def test_a_sounds_hash_is_that_of_its_samples_and_rate_alone(tmp_path):
    for name, content in {
        "a": wav(SAMPLES),
        "tagged": wav(SAMPLES, chunk(b"LIST", b"INFO" + chunk(b"INAM", b"A title."))),
        "other": wav(SAMPLES + np.eye(1, len(SAMPLES), 99, dtype=np.int16)[0]),
    }.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
    save(tmp_path / "faster.wav", SAMPLES / 32768, 24000)
    hashes = {path.stem: sound_hash(path) for path in tmp_path.iterdir()}
    assert hashes["a"] == hashes["tagged"]
    assert len({hashes["a"], hashes["other"], hashes["faster"]}) == 3


# Configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{"f_max": 12000.0}, {"f_min": 9000.0}, {"f_min": -1.0}, {"hop_length": 0}, {"win_length": 2048}],
)
def test_sizes_that_contradict_each_other_are_refused(values):
    with pytest.raises(AudioError):
        AudioConfig(**values)


def test_frames_per_second_are_those_of_the_log_mel():
    wave = tone(seconds=10)
    assert log_mel(wave).shape[-1] == int(10 * AudioConfig().frames_per_second) + 1


def test_a_sample_clip_has_its_own_rate_and_length(sample_takes):
    path = Path(sample_takes) / "0001-1.flac"
    info = soundfile.info(path)
    wave, rate = load(path, sample_rate=None)
    assert (len(wave), rate) == (info.frames, info.samplerate)
