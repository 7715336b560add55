"""What a clip says: heard by an engine, compared word by word with its prompt, corrected by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .align import align
from .audio import load
from .ears import PACKAGED_WHISPER, SAMPLE_RATE, Heard, Transcriber, default_wav2vec2, load_transcriber
from .errors import AlignmentError, AudioError, TextError, VoiceCloneError, VoiceError
from .text import normalise, to_ids

if TYPE_CHECKING:
    import jiwer

    from .voice import Clip, Voice

__all__ = [
    "Difference", "Heard", "Transcriber", "accept", "correct", "load_transcriber", "reject", "transcribe",
    "word_differences", "word_error_rate", "words",
]

# Engines mishear a word now and then; up to this rate the prompt is believed, if its sounds fit the clip too.
AGREEMENT = 0.25


@dataclass(frozen=True)
class Difference:
    """One word of a text against another text."""

    kind: str  # "same", "replaced", "missing" (only in the reference) or "added" (only in the hypothesis)
    reference: str  # "" if added
    hypothesis: str  # "" if missing


# Words ------------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Words of a text as they are compared: numbers written out, lower case, no punctuation.

    >>> words("It cost $3, didn't it?")
    ['it', 'cost', 'three', 'dollars', "didn't", 'it']
    """
    try:
        text = normalise(text)
    except TextError:  # engines write notes and other signs now and then: no word of theirs counts
        text = normalise(re.sub(r"[^\x20-\x7e]|[{}]", " ", text))
    return re.findall(r"\{[^}]*\}|[a-z]+(?:'[a-z]+)*", text.lower())


def _compare(references: Sequence[str], hypotheses: Sequence[str]) -> jiwer.WordOutput:
    import jiwer

    return jiwer.process_words([" ".join(words(t)) for t in references], [" ".join(words(t)) for t in hypotheses])


def word_differences(reference: str, hypothesis: str) -> tuple[Difference, ...]:
    """Compare two texts word by word, with the fewest changes.

    Examples
    --------
    >>> [d.kind for d in word_differences("the red house", "a red house there")]
    ['replaced', 'same', 'same', 'added']
    """
    found = _compare([reference], [hypothesis])
    kinds = {"equal": "same", "substitute": "replaced", "delete": "missing", "insert": "added"}
    differences = []
    for chunk in found.alignments[0]:
        kind = kinds[chunk.type]
        old = found.references[0][chunk.ref_start_idx : chunk.ref_end_idx]
        new = found.hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx]
        differences += [
            Difference(kind, old[k] if old else "", new[k] if new else "") for k in range(max(len(old), len(new)))
        ]
    return tuple(differences)


def word_error_rate(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Words replaced, missing and added, out of all words of the references; 0 is best, more than 1 is possible.

    Without any word in the references it is 0 if nothing was heard, else 1.
    """
    references = [references] if isinstance(references, str) else list(references)
    hypotheses = [hypotheses] if isinstance(hypotheses, str) else list(hypotheses)
    if len(references) != len(hypotheses):
        raise VoiceCloneError(
            f"{len(references)} references and {len(hypotheses)} hypotheses: expected as many of both."
        )
    if not references:
        return 0.0
    found = _compare(references, hypotheses)
    wrong = found.substitutions + found.deletions + found.insertions
    spoken = found.hits + found.substitutions + found.deletions
    return wrong / spoken if spoken else float(wrong > 0)


# A voice's clips --------------------------------------------------------------------------------------------------


def transcribe(
    voice: Voice,
    engine: str = "auto",
    model: str | None = None,
    device: str | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Clip, ...]:
    """Write down what each chosen take says and compare it with its prompt.

    Where both agree, the prompt is the transcript and a good take is accepted; else what was heard is, and the clip
    is up for review. Takes that were heard already, texts written by hand and rejected clips stay as they are.

    Parameters
    ----------
    voice : Voice
        Its ``clips.csv`` is updated after each clip, so that nothing is lost when this is interrupted.
    engine, model, device : str
        As for `load_transcriber`; with "auto" a take that any engine has heard is not heard again.
    progress : callable or None
        Called with clips done and clips in all.

    Returns
    -------
    tuple of Clip
        All clips of the voice.

    Raises
    ------
    AudioError
        If takes could not be read, naming them, after all others were heard.
    """
    todo = [clip for clip in voice.clips if clip.take and clip.state != "rejected"]
    todo = [clip for clip in todo if not _was_heard(clip, engine, model, device)]
    transcriber = load_transcriber(engine, model, device) if todo else None
    failed = []
    for done, clip in enumerate(todo, 1):
        try:
            wave, rate = load(voice.take_path(clip), sample_rate=SAMPLE_RATE)
        except AudioError as error:
            failed.append(f"{clip.id}: {error}")
            continue
        heard = transcriber.hear(wave, rate)
        row = voice.clip(clip.id)  # as it is now: someone may have corrected it meanwhile
        if (row.take, row.hash) == (clip.take, clip.hash):
            key = _key(transcriber.engine, transcriber.model, row)
            judged = _judged(row, heard.text, transcriber.engine, wave, rate)
            voice.update(replace(judged, heard_by=key, confidence=f"{heard.confidence:.2f}"))
        if progress:
            progress(done, len(todo))
    if failed:
        raise AudioError(f"{len(failed)} of {len(todo)} takes could not be read; the others were. " + " ".join(failed))
    return voice.clips


def _key(engine: str, model: str, clip: Clip) -> str:
    return f"{engine}:{model}@{clip.hash}"


def _was_heard(clip: Clip, engine: str, model: str | None, device: str | None) -> bool:
    if engine == "auto":
        return bool(clip.hash) and clip.heard_by.endswith(f"@{clip.hash}")
    if not clip.heard_by.startswith(f"{engine}:"):
        return False
    default = PACKAGED_WHISPER if engine == "whisper" else default_wav2vec2(device)
    return clip.heard_by == _key(engine, model or default, clip)


def _judged(clip: Clip, heard: str, engine: str, wave: np.ndarray, rate: int) -> Clip:
    """The row with what was heard, and what follows from it."""
    if clip.source == "hand":
        return replace(clip, heard=heard)
    if agree(clip.prompt, heard, wave, rate):
        state = "review" if clip.checks else "accepted"
        return replace(clip, heard=heard, transcript=clip.prompt, source="prompt", state=state)
    return replace(clip, heard=heard, transcript=heard, source=engine, state="review")


def agree(prompt: str, heard: str, wave: np.ndarray, rate: int) -> bool:
    """Whether the clip says its prompt: every word was heard so, or most were and the prompt's sounds fit the clip."""
    if not words(prompt):
        return False
    errors = word_error_rate(prompt, heard)
    if 0 < errors <= AGREEMENT:
        try:
            return align(wave, rate, prompt).fits
        except AlignmentError:
            return False
    return errors == 0


def correct(voice: Voice, clip_id: str, transcript: str) -> Clip:
    """Write what a clip says by hand; no engine will touch it again, and the clip is accepted.

    Raises
    ------
    TextError
        If the text cannot be spoken; the clip is as it was.
    """
    transcript = " ".join(transcript.split())
    to_ids(transcript)
    return _update(voice, replace(voice.clip(clip_id), transcript=transcript, source="hand", state="accepted"))


def accept(voice: Voice, clip_id: str) -> Clip:
    """Let training use a clip with the transcript that it has.

    Raises
    ------
    VoiceError
        If it has no take or no transcript.
    """
    clip = voice.clip(clip_id)
    if not clip.take or not clip.transcript:
        lacks = "take: record it (notebook 01)" if not clip.take else "transcript: write one (notebook 02)"
        raise VoiceError(f"Clip {clip_id} cannot be accepted: it has no {lacks}.")
    return _update(voice, replace(clip, state="accepted"))


def reject(voice: Voice, clip_id: str) -> Clip:
    """Keep a clip out of training; its take stays where it is."""
    return _update(voice, replace(voice.clip(clip_id), state="rejected"))


def _update(voice: Voice, clip: Clip) -> Clip:
    voice.update(clip)
    return clip
