"""Speaking: text to sentences, sentences to mels, mels to sound, and an honest word on how it went."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .audio import AudioConfig
from .device import choose_device, seeded
from .errors import AudioError, CheckpointError, TextError, VoiceCloneError
from .levels import TARGET_LUFS, loudness
from .text import FRONT_END, split_sentences, symbol_names, to_ids

if TYPE_CHECKING:
    import torch

    from .ears import Transcriber
    from .tacotron2 import Tacotron2, TacotronOutput
    from .vocoders import Vocoder
    from .voice import Voice

PEAK = 0.89  # -1 dBFS: no sample above it
PAUSE_SECONDS = 0.25  # between two sentences, beside the silence that each has at its ends
SECONDS_A_SYMBOL = 0.25  # slower than anyone speaks; what takes longer has not found its end
PATIENCE_SECONDS = 0.35  # on a sentence's last symbol, after which it is over
STUCK_SECONDS = 1.0  # on one sound, which nobody holds so long
SKIPPED_SOUNDS = 3  # in a row without attention: one short sound may pass between two steps
REPEATED_SYMBOLS = 4  # that the attention goes back at once
HEARD = 0.15  # attention, summed over time, from which a sound counts as spoken
TOGETHER = 4  # sentences that are said at once: a step reads every weight once, however many sentences it speaks


@dataclass(frozen=True)
class Utterance:
    """What was said, and how it went."""

    text: str
    wave: np.ndarray  # (samples,) float32, one at least, with the watermark that says it is synthetic
    sample_rate: int  # Hz
    mel: np.ndarray  # (n_mels, frames) log-mel
    alignment: np.ndarray  # (decoder steps, symbols) attention weights
    symbols: tuple[str, ...]  # names of the alignment's symbols
    stopped: bool  # the gate ended every sentence
    problems: tuple[str, ...]  # what went wrong, for people; empty = nothing
    seconds_spent: float  # from text to wave

    @property
    def ok(self) -> bool:
        """Nothing went wrong."""
        return not self.problems

    @property
    def duration(self) -> float:
        """Seconds of sound."""
        return len(self.wave) / self.sample_rate


@dataclass(frozen=True)
class Attempt:
    """One of several ways in which the model said a sentence."""

    mel: np.ndarray  # (n_mels, frames)
    alignment: np.ndarray  # (decoder steps, symbols)
    stopped: bool
    problems: tuple[str, ...]
    sharpness: float  # mean over steps of the largest attention weight; a lost model's attention is blurred


def alignment_problems(alignment: np.ndarray, symbols: Sequence[str], seconds_a_step: float) -> tuple[str, ...]:
    """What an alignment shows to have gone wrong: sounds skipped, repeated or held, a text left unfinished.

    Parameters
    ----------
    alignment : np.ndarray, shape (decoder steps, symbols)
        Attention weights; rows sum to 1.
    symbols : sequence of str
        The symbols' names; those of sounds begin with ``@``.
    seconds_a_step : float
        Time that one decoder step speaks.
    """
    place = alignment.argmax(axis=1)
    sound = np.array([name.startswith("@") or name.isalpha() for name in symbols])
    problems = []
    silent = (alignment.sum(axis=0) < HEARD) & sound
    run, worst, worst_end = 0, 0, 0
    for index in np.flatnonzero(sound):  # spaces and marks may have no time of their own
        run = run + 1 if silent[index] else 0
        if run > worst:
            worst, worst_end = run, index
    last = int(np.flatnonzero(sound)[-1])
    if place.max() < last - 1:
        problems.append(f"it stopped at symbol {place.max() + 1} of {len(symbols)}: the end of the text was not spoken")
    elif worst >= SKIPPED_SOUNDS:
        problems.append(f"{worst} sounds up to {symbols[worst_end].lstrip('@')} (symbol {worst_end + 1}) were skipped")
    if (back := int(-np.diff(place, prepend=0).min())) >= REPEATED_SYMBOLS:
        problems.append(f"the attention jumped back by {back} symbols: something was said twice")
    held = np.bincount(place, minlength=len(symbols)) * seconds_a_step
    held[~sound] = 0
    if held.max() > STUCK_SECONDS:
        name = symbols[int(held.argmax())].lstrip("@")
        problems.append(f"it stayed on the sound {name} for {held.max():.1f} s")
    return tuple(problems)


class Synthesizer:
    """A trained voice that reads any text. Open one with `Synthesizer.open`."""

    def __init__(
        self,
        model: Tacotron2,
        vocoder: Vocoder,
        *,
        speaker: torch.Tensor | None = None,
        voice: Voice | None = None,
        checkpoint: Path | None = None,
        device: str = "cpu",
        front_end: str = FRONT_END,
    ) -> None:
        self.model = model.to(device).eval()
        self.model.decoder.pack()
        self.vocoder = vocoder
        self.speaker = speaker
        self.voice = voice
        self.checkpoint = checkpoint
        self.device = device
        self.front_end = front_end
        self.audio = AudioConfig()
        self._ears: dict[str, Transcriber] = {}  # listeners, loaded when first asked for

    @classmethod
    def open(
        cls,
        voice: Voice,
        *,
        run: str | None = None,
        checkpoint: str = "best",
        vocoder: str = "auto",
        denoise: float = 0.0,
        device: str | None = None,
    ) -> Synthesizer:
        """Load what training made of a voice.

        Parameters
        ----------
        voice : Voice
        run : str or None
            Training run; None takes the one that was worked on last.
        checkpoint : str
            ``"best"``, ``"last"``, or the name of a file in the run's ``checkpoints/``.
        vocoder : str
            ``"hifigan_tuned"``: the one that was tuned to this run; ``"auto"``: that one where there is one, else
            HiFi-GAN's universal one; or any name that `voiceclone.vocoders.load_vocoder` knows.
        denoise : float
            For WaveGlow: how much to take away of what the model adds to every sound; NVIDIA begins with 0.1.
        device : str or None
            ``"cpu"``, ``"cuda"``; None chooses.

        Raises
        ------
        CheckpointError
            If the voice has not been trained yet, or there is no such checkpoint or no vocoder of its own.
        VoiceCloneError
            If the vocoder has no denoiser, but shall use it.
        """
        from .tacotron2.checkpoint import load_checkpoint
        from .vocoders.tuned import load_vocoder_of

        device = choose_device(device)
        path = find_checkpoint(voice, run, checkpoint)
        loaded = load_checkpoint(path)
        return cls(
            loaded.model,
            load_vocoder_of(path.parent.parent, vocoder, device=device, denoise=denoise),
            speaker=loaded.speaker,
            voice=voice,
            checkpoint=path,
            device=device,
            front_end=loaded.front_end,
        )

    @property
    def sample_rate(self) -> int:
        """Hz of what is said."""
        return self.audio.sample_rate

    @property
    def seconds_a_step(self) -> float:
        """Time that one decoder step speaks."""
        return self.model.config.n_frames_per_step / self.audio.frames_per_second

    def say(self, text: str, *, takes: int = 3, seed: int = 0, listener: str = "") -> Utterance:
        """Say a text of any length, sentence by sentence.

        Parameters
        ----------
        text : str
            English; ``{HH AW1 S}`` gives phonemes.
        takes : int
            How often each sentence is tried; the take whose alignment is best is kept. The prenet's dropout makes
            takes differ.
        seed : int
            The same seed gives the same takes.
        listener : str
            Engine that hears each take (``"whisper"``, ``"wav2vec2"``), so that the one that is understood best is
            kept; "" judges by alignment alone, which is faster.

        Raises
        ------
        TextError
            If the text holds nothing to say or something that cannot be said.
        """
        began = time.monotonic()
        spoken = list(self.stream(text, takes=takes, seed=seed, listener=listener))
        if len(spoken) == 1:
            return replace(spoken[0], text=text)
        pause = np.zeros(round(PAUSE_SECONDS * self.sample_rate), dtype=np.float32)
        rest = np.full((self.audio.n_mels, len(pause) // self.audio.hop_length), spoken[0].mel.min(), dtype=np.float32)
        return Utterance(
            text,
            np.concatenate(_between([u.wave for u in spoken], pause)),
            self.sample_rate,
            np.concatenate(_between([u.mel for u in spoken], rest), axis=1),
            _block_diagonal([u.alignment for u in spoken]),
            tuple(name for u in spoken for name in u.symbols),
            all(u.stopped for u in spoken),
            tuple(f"sentence {number}: {p}" for number, u in enumerate(spoken, 1) for p in u.problems),
            time.monotonic() - began,
        )

    def stream(self, text: str, *, takes: int = 3, seed: int = 0, listener: str = "") -> Iterator[Utterance]:
        """Say a text sentence by sentence, each as soon as it is ready; parameters as for `say`."""
        if takes < 1:
            raise VoiceCloneError(f"takes={takes} must be at least 1: it is how often each sentence is tried.")
        sentences = split_sentences(text, front_end=self.front_end)
        if not sentences:
            raise TextError(f"There is nothing to say in {text!r}: it has no word.")
        yield from self._say_together(sentences[:1], takes, seed, listener)  # so that it is heard soon
        for at in range(1, len(sentences), TOGETHER):
            yield from self._say_together(sentences[at : at + TOGETHER], takes, seed + 1000 * at, listener)

    def _say_together(self, sentences: Sequence[str], takes: int, seed: int, listener: str) -> Iterator[Utterance]:
        """Say sentences whose mels are made at once, each yielded as soon as it has become sound."""
        began = time.monotonic()
        texts = [to_ids(sentence, front_end=self.front_end) for sentence in sentences]
        tried = self.attempts(texts, takes=takes, seed=seed)
        share = (time.monotonic() - began) / len(sentences)
        for sentence, ids, attempts in zip(sentences, texts, tried, strict=True):
            began = time.monotonic()
            misheard = self._misheard(attempts, sentence, listener, seed) if listener else [0.0] * takes
            best, _ = min(
                zip(attempts, misheard, strict=True), key=lambda one: (len(one[0].problems), one[1], -one[0].sharpness)
            )
            yield Utterance(
                sentence,
                self._sound(best, seed),
                self.sample_rate,
                best.mel,
                best.alignment,
                tuple(symbol_names(ids)),
                best.stopped,
                best.problems,
                share + time.monotonic() - began,
            )

    def attempts(self, texts: Sequence[Sequence[int]], *, takes: int, seed: int) -> list[list[Attempt]]:
        """Say each text's symbols several times, all at once; only the mels, a list of takes for each text."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from .tacotron2 import AttentionWindow

        rows = [torch.tensor(ids, device=self.device) for ids in texts for _ in range(takes)]
        speaker = None if self.speaker is None else self.speaker.to(self.device).expand(len(rows), -1)
        with seeded(seed, self.device):
            out = self.model.infer(
                pad_sequence(rows, batch_first=True),
                torch.tensor([len(row) for row in rows], device=self.device),
                max(self._most_steps(ids) for ids in texts),
                speaker=speaker,
                window=AttentionWindow(),
                patience=round(PATIENCE_SECONDS / self.seconds_a_step),
            )
        return [
            [self._attempt(out, number * takes + take, ids) for take in range(takes)]
            for number, ids in enumerate(texts)
        ]

    def _most_steps(self, ids: Sequence[int]) -> int:
        """Decoder steps after which a text is cut that has found no end."""
        return round((2 + SECONDS_A_SYMBOL * len(ids)) / self.seconds_a_step)

    def _attempt(self, out: TacotronOutput, row: int, ids: Sequence[int]) -> Attempt:
        """One row of what the network gave, and what is wrong with it."""
        frames_a_step = self.model.config.n_frames_per_step
        steps, most = int(out.mel_lengths[row]) // frames_a_step, self._most_steps(ids)
        cut, steps = steps >= most, min(steps, most)
        alignment = out.alignment[row, :steps, : len(ids)].cpu().numpy()
        problems = alignment_problems(alignment, symbol_names(ids), self.seconds_a_step)
        if steps == 1:
            problems += ("nothing was said: the gate fired at once",)
        if cut:
            problems += (f"the gate never fired: it was cut after {steps * self.seconds_a_step:.1f} s",)
        mel = out.mel_postnet[row, :, : steps * frames_a_step].cpu().numpy()
        stopped = bool(out.stopped[row]) and not cut
        return Attempt(mel, alignment, stopped, problems, float(alignment.max(1).mean()))

    def _misheard(self, attempts: Sequence[Attempt], sentence: str, listener: str, seed: int) -> list[float]:
        """Word error rate of each attempt."""
        from .transcribe import load_transcriber, word_error_rate

        if listener not in self._ears:
            self._ears[listener] = load_transcriber(listener)
        sounds = (self._sound(attempt, seed) for attempt in attempts)
        heard = [self._ears[listener].hear(sound, self.sample_rate).text for sound in sounds]
        return [word_error_rate(sentence, text) for text in heard]

    def _sound(self, attempt: Attempt, seed: int) -> np.ndarray:
        """(samples,) with the watermark, as loud as the clips; a moment of silence where nothing is said."""
        from .vocoders import vocode
        from .watermark import mark

        if attempt.mel.shape[1] == 1:  # sound lies between the centres of two frames
            return np.zeros(self.audio.hop_length, dtype=np.float32)
        with seeded(seed, self.device):  # WaveGlow makes sound from noise
            wave = vocode(self.vocoder, attempt.mel)
        return self._level(mark(wave, self.sample_rate))

    def _level(self, wave: np.ndarray) -> np.ndarray:
        """As loud as the clips, and no sample beyond full scale."""
        with suppress(AudioError):  # too short or too quiet to have a loudness: left as it is
            wave = wave * 10 ** ((TARGET_LUFS - loudness(wave, self.sample_rate)) / 20)
        peak = float(np.abs(wave).max())
        return (wave * min(1.0, PEAK / max(peak, 1e-9))).astype(np.float32)


def find_checkpoint(voice: Voice, run: str | None = None, checkpoint: str = "best") -> Path:
    """Path of a voice's checkpoint: ``"best"``, ``"last"``, or a file's name.

    Without a run it is one of the run whose checkpoints are the newest: its folder changes for other reasons, too.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    runs = [voice.run_dir(run)] if run else voice.runs_dir.glob("*")
    files = [file for folder in runs for file in (folder / "checkpoints").glob("[!.]*.pt")]
    if not files:
        where = f"the run {run!r}" if run else "any run"
        raise CheckpointError(f"{voice.name} has no checkpoint in {where}: train it first (notebook 05).")
    folder = max(files, key=lambda file: file.stat().st_mtime).parent
    if checkpoint == "last" and (steps := sorted(folder.glob("step-*.pt"))):
        return steps[-1]
    path = folder / (checkpoint if checkpoint.endswith(".pt") else f"{checkpoint}.pt")
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("[!.]*.pt")))
        raise CheckpointError(f"There is no checkpoint {checkpoint!r} in {folder}; there are: {known}.")
    return path


def _between(parts: Sequence[np.ndarray], gap: np.ndarray) -> list[np.ndarray]:
    """Parts with the gap between each two."""
    return [piece for part in parts for piece in (part, gap)][:-1]


def _block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Alignments of sentences spoken one after another, as one."""
    from scipy.linalg import block_diag

    return block_diag(*blocks).astype(np.float32)
