"""Spectrograms as a trained Tacotron 2 draws them, in time with the natural sound: what a vocoder is fine-tuned on.

Under teacher forcing each frame is predicted from the true ones before it, so the spectrogram has the clip's own timing
and Tacotron 2's own faults (Shen et al. 2018 call it ground-truth-aligned). A vocoder that learns the clip's wave from
it learns to make up for these faults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..audio import LOG_FLOOR, AudioConfig, load, log_mel
from ..device import seeded

if TYPE_CHECKING:
    from ..voice import Clip, Voice
    from .base import Vocoder

SILENCE = log(LOG_FLOOR)  # of a log-mel, with which short clips are padded


@dataclass(frozen=True)
class AlignedClip:
    """A predicted spectrogram and the wave that belongs to it."""

    id: str
    mel: torch.Tensor  # (n_mels, frames), frame t centred on sample t * hop_length as `log_mel` has it
    wave: np.ndarray  # (samples,) float32, natural


def aligned_clips(
    voice: Voice,
    checkpoint: str | Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[Clip], None] | None = None,
) -> list[AlignedClip]:
    """Let a trained Tacotron 2 draw all of a voice's usable clips, teacher-forced.

    Parameters
    ----------
    voice : Voice
    checkpoint : str or Path
        What training made of the voice.
    device : str
        Where to compute.
    seed : int
        Of the prenet's dropout, which is never off.
    progress : callable or None
        Called with each clip that is done.
    """
    from ..dataset import Example, collate
    from ..pitch import track_pitch
    from ..tacotron2.checkpoint import load_checkpoint
    from ..text import to_ids

    loaded = load_checkpoint(checkpoint)
    model, speaker, audio = loaded.model.to(device).eval(), loaded.speaker, AudioConfig()
    clips = []
    with seeded(seed, device), torch.inference_mode():
        for clip in voice.usable():
            wave, _ = load(voice.clip_path(clip.id), sample_rate=audio.sample_rate)
            ids = np.array(to_ids(clip.transcript, front_end=loaded.front_end))
            mel = log_mel(wave, audio)[0]
            example = Example(clip.id, clip.transcript, ids, mel, None, speaker, track_pitch(wave, audio))
            batch = collate([example], model.config.n_frames_per_step).to(device)
            out = model(
                batch.text, batch.text_lengths, batch.mels, batch.mel_lengths, batch.speaker, batch.pitch
            )
            clips.append(AlignedClip(clip.id, out.mel_postnet[0, :, : mel.shape[1]].cpu().clone(), wave))
            if progress:
                progress(clip)
    return clips


def cut(
    clips: Sequence[AlignedClip], places: Sequence[tuple[int, int]], frames: int, *, hop_length: int, frame_delay: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pieces of spectrograms, and the waves that a vocoder shall make of them.

    A vocoder makes ``frames * hop_length`` samples of a piece, the first of them `frame_delay` before the centre of
    the piece's first frame, see `voiceclone.vocoders.vocode`.

    Parameters
    ----------
    clips : sequence of AlignedClip
    places : sequence of (int, int)
        Clip and first frame of each piece. Where a clip ends, silence follows.
    frames : int
        Of a piece.

    Returns
    -------
    mels : torch.Tensor, shape (batch, n_mels, frames)
    waves : torch.Tensor, shape (batch, frames * hop_length)
    """
    mels = torch.full((len(places), clips[0].mel.shape[0], frames), SILENCE)
    waves = torch.zeros(len(places), frames * hop_length)
    for row, (index, first) in enumerate(places):
        mel = clips[index].mel[:, first : first + frames]
        mels[row, :, : mel.shape[1]] = mel
        padded = np.pad(clips[index].wave, (frame_delay, 0))
        wave = padded[first * hop_length : (first + frames) * hop_length]
        waves[row, : len(wave)] = torch.from_numpy(wave)
    return mels, waves


def mel_error(vocoder: Vocoder, clips: Sequence[AlignedClip]) -> float:
    """How far the spectrogram of what a vocoder says is from the natural one's, in nepers (1 is 8.7 dB).

    The mean over all frames and bands of the clips, the bands reaching to half the sample rate as in the paper.
    """
    from . import vocode

    audio, total, count = whole_range(vocoder.audio), 0.0, 0
    for clip in clips:
        said = vocode(vocoder, clip.mel)
        natural = np.pad(clip.wave, (0, max(0, len(said) - len(clip.wave))))[: len(said)]
        difference = (log_mel(said, audio) - log_mel(natural, audio)).abs()
        total, count = total + float(difference.sum()), count + difference.numel()
    return total / count


def whole_range(audio: AudioConfig) -> AudioConfig:
    """The same with bands up to half the sample rate: what is heard above 8 kHz is learned and measured too."""
    return replace(audio, f_max=audio.sample_rate / 2)
