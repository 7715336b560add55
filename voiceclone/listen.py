"""Hearing how far a voice has come: it says a few sentences, and what is heard decides which checkpoint is best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .audio import save
from .dataset import Example, collate
from .files import atomic_write
from .synthesize import Synthesizer, Utterance
from .tacotron2 import Tacotron2

if TYPE_CHECKING:
    from .transcribe import Transcriber
    from .vocoders import Vocoder

# Never trained on and in no other list, so that choosing by them does not flatter any measure.
PREVIEW_SENTENCES = (
    "The children found a small boat beside the river this morning.",
    "Could you tell me when the next train leaves for the city?",
    "We should choose a quiet place and talk about the journey.",
    "His mother bought fresh bread and some cheese at the market.",
    "It usually rains for a week before the first warm days of the year.",
)
LOSS_WEIGHT = 0.05  # of the held-out loss beside the share of misheard words: decides between equals


@dataclass(frozen=True)
class Preview:
    """What the voice says at one moment of its training."""

    step: int
    text: str
    wave: np.ndarray  # (samples,)
    sample_rate: int  # Hz
    mel_predicted: np.ndarray  # (n_mels, frames), of a held-out clip, teacher-forced
    mel_true: np.ndarray  # (n_mels, frames), of the same clip
    alignment: np.ndarray  # (decoder steps, symbols), of the spoken sentence
    symbols: tuple[str, ...]
    heard: str  # what the listener wrote; "" without one
    problems: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write the sound and the arrays into a folder, named by the step."""
        save(folder / f"step-{self.step:06d}.wav", self.wave, self.sample_rate)
        with atomic_write(folder / f"step-{self.step:06d}.npz") as file:
            np.savez_compressed(
                file,
                text=self.text,
                heard=self.heard,
                mel_predicted=self.mel_predicted.astype(np.float16),
                mel_true=self.mel_true.astype(np.float16),
                alignment=self.alignment.astype(np.float16),
                symbols=np.array(self.symbols),
            )


@dataclass(frozen=True)
class Judgement:
    """What listening to a model gave."""

    preview: Preview
    measures: dict[str, float]  # losses, problems, likeness, word_error_rate where there is a listener
    worth: float  # lower is better


class Listener:
    """Lets a model speak, transcribes it, and judges. The vocoder and the transcriber are loaded when first needed."""

    def __init__(self, engine: str, vocoder: str, speaker: torch.Tensor | None, device: str) -> None:
        self.engine, self.vocoder, self.speaker, self.device = engine, vocoder, speaker, device
        self._vocoder: Vocoder | None = None
        self._transcriber: Transcriber | None = None

    def judge(self, model: Tacotron2, step: int, losses: dict[str, float], example: Example, seed: int) -> Judgement:
        """Listen to the model.

        Parameters
        ----------
        model : Tacotron2
        step : int
            Where in its training it is.
        losses : dict
            On held-out clips; ``mel`` counts a little.
        example : Example
            Shown beside what the model makes of it.
        seed : int
            Of the prenet's dropout, so that checkpoints are compared alike.
        """
        spoken = [self._say(model, text, seed) for text in PREVIEW_SENTENCES]
        heard = [self._hear(utterance) for utterance in spoken]
        problems = sum(not utterance.ok for utterance in spoken)
        measures = {**losses, "problems": float(problems)}
        if self.engine:
            from .transcribe import word_error_rate

            measures["word_error_rate"] = word_error_rate(list(PREVIEW_SENTENCES), heard)
        if self.speaker is not None:
            from .speaker import likeness_to

            own = self.speaker.numpy()
            measures["likeness"] = float(np.mean([likeness_to(own, u.wave, u.sample_rate) for u in spoken]))
        worth = (
            measures.get("word_error_rate", 0.0)
            + problems / len(spoken)
            + (1 - measures.get("likeness", 1.0))
            + LOSS_WEIGHT * losses.get("mel", 0.0)
        )
        preview = Preview(
            step=step,
            text=spoken[0].text,
            wave=spoken[0].wave,
            sample_rate=spoken[0].sample_rate,
            mel_predicted=teacher_forced(model, example, self.device),
            mel_true=example.mel.numpy(),
            alignment=spoken[0].alignment,
            symbols=spoken[0].symbols,
            heard=heard[0],
            problems=spoken[0].problems,
        )
        return Judgement(preview, measures, worth)

    def _say(self, model: Tacotron2, text: str, seed: int) -> Utterance:
        from .vocoders import load_vocoder

        self._vocoder = self._vocoder or load_vocoder(self.vocoder, device=self.device)
        return Synthesizer(model, self._vocoder, speaker=self.speaker, device=self.device).say(text, takes=1, seed=seed)

    def _hear(self, utterance: Utterance) -> str:
        if not self.engine:
            return ""
        from .transcribe import load_transcriber

        self._transcriber = self._transcriber or load_transcriber(self.engine)
        return self._transcriber.hear(utterance.wave, utterance.sample_rate).text


@torch.no_grad()
def teacher_forced(model: Tacotron2, example: Example, device: str) -> np.ndarray:
    """What the model predicts of a clip, each frame from the true ones before it; (n_mels, frames)."""
    batch = collate([example], model.config.n_frames_per_step).to(device)
    out = model.eval()(batch.text, batch.text_lengths, batch.mels, batch.mel_lengths, batch.speaker, batch.pitch)
    return out.mel_postnet[0, :, : example.mel.shape[1]].float().cpu().numpy()
