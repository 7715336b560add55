"""Measuring the clone once for each checkpoint, and showing what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ..files import atomic_write, file_hash, text_hash
from ..vocoders.tuned import TUNED, generator_of
from .panel import Markup, Progress, plain_warnings, table

if TYPE_CHECKING:
    from ..evaluate import Evaluation, Measures
    from ..synthesize import Synthesizer

EVALUATION_FILE = "evaluation.json"  # in samples/
_LABELS = {  # what is measured -> what it is called
    "word_error_rate": "word error rate (0 is best)",
    "likeness": "likeness (1 is the same voice)",
    "opinion_score": "opinion score, predicted (1 to 5)",
    "real_time_factor": "seconds of computing for one of speech",
    "failures": "sentences that failed",
    "count": "sentences",
}


def evaluated(synthesizer: Synthesizer, sentences: Sequence[str], *, engine: str = "auto") -> Evaluation:
    """Evaluate and keep the result in ``samples/evaluation.json``; what is there of the same weights is not made anew.

    Parameters
    ----------
    synthesizer
        The voice that speaks.
    sentences
        What it says.
    engine
        Who listens: "wav2vec2", "whisper" or "auto".

    Returns
    -------
    Evaluation
        What `voiceclone.evaluate.evaluate` gives, or the same fields as read from the file.
    """
    from ..evaluate import evaluate

    voice = synthesizer.voice
    path = voice.samples_dir / EVALUATION_FILE
    vocoder = synthesizer.vocoder.name
    if vocoder == TUNED:  # which was perhaps tuned further
        vocoder += file_hash(generator_of(synthesizer.checkpoint.parent.parent))
    of = text_hash(file_hash(synthesizer.checkpoint), vocoder, voice.content_hash(), engine, *sentences)
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"), object_hook=lambda entries: SimpleNamespace(**entries))
        if getattr(known, "of", "") == of:
            return known
    with plain_warnings():
        result = evaluate(synthesizer, sentences, engine=engine, progress=Progress("measured"))
    with atomic_write(path, "w") as file:
        json.dump(result.as_dict() | {"of": of}, file, indent=2, ensure_ascii=False)
    return result


def measures_table(result: Evaluation) -> Markup:
    """The clone's measures beside those of the natural clips."""
    rows = [(label, _figure(result.voice, name), _figure(result.natural, name)) for name, label in _LABELS.items()]
    return table(rows, heading=("", "clone", "natural"))


def sentences_table(result: Evaluation) -> Markup:
    """Each sentence, what was heard of it, and what was wrong."""
    rows = [
        (row.text, row.heard, row.word_error_rate, row.likeness, "; ".join(row.problems)) for row in result.rows
    ]
    return table(rows, heading=("said", "heard", "errors", "likeness", "problems"))


def _figure(measures: Measures, name: str) -> str:
    value = getattr(measures, name)
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
