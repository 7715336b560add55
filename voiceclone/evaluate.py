"""How good the clone is: sentences it never trained on, measured beside the natural clips of the same voice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .audio import load, resample
from .errors import VoiceCloneError, VoiceError
from .speaker import embed, likeness, likeness_to, mean_embedding
from .transcribe import load_transcriber, word_error_rate, words

if TYPE_CHECKING:
    from .ears import Transcriber
    from .synthesize import Utterance
    from .voice import Clip, Voice

# Plain sentences of this project's own; none is a prompt or serves to choose a checkpoint.
SENTENCES: tuple[str, ...] = (
    "We left the house before breakfast and drove to the coast.",
    "My sister works in a small hospital near the station.",
    "Can you help me carry these boxes up to the attic?",
    "The kettle is boiling, so the tea will be ready soon.",
    "He forgot his umbrella and came home completely wet.",
    "There was nobody in the office when the phone rang.",
    "She has been learning to play the violin since last winter.",
    "The shop on the corner sells fresh bread and good cheese.",
    "I would rather stay at home and watch a film tonight.",
    "It rained so hard that the street turned into a river.",
    "Where did you put the keys to the garage?",
    "Our neighbours have a black dog that barks at every bicycle.",
    "The doctor told him to drink more water and to sleep longer.",
    "Nothing on the menu looked cheap, but the food was excellent.",
    "They are planning a short holiday in the mountains.",
    "Please write your name and address at the top of the page.",
    "A thick fog covered the valley until the early afternoon.",
    "The teacher smiled because everyone had finished the exercise.",
    "I heard a strange noise behind the kitchen door.",
    "We need three eggs, some butter and a cup of sugar.",
    "The bus was late again, and I missed the meeting.",
    "Her grandfather used to repair watches in that tiny shop.",
    "Turn right after the bridge and follow the path to the lake.",
    "Everybody laughed when the cat jumped onto the table.",
)
MOST_NATURAL = 25  # clips that are measured; of more, that many spread evenly
LOWEST_OPINION = 1.0  # on the scale of 1 to 5
OPINION_RATE = 16000  # Hz, DNSMOS's
# One look of DNSMOS, in samples. It repeats shorter waves itself, but to up to twice that, and looks once a second:
# seven times the work for 0.04 more or less.
OPINION_WINDOW = 144160


class Speaker(Protocol):
    """What can be evaluated: a `Synthesizer`, or anything else that speaks for a voice."""

    voice: Voice

    def say(self, text: str) -> Utterance:
        """Say a text."""


@dataclass(frozen=True)
class Row:
    """One sentence."""

    text: str
    heard: str
    word_error_rate: float
    likeness: float  # to the mean of the natural clips
    opinion_score: float
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Measures:
    """Means over some utterances."""

    word_error_rate: float  # words wrong out of all words; 0 is best
    likeness: float  # cosine of speaker embeddings; 1 is the same voice
    opinion_score: float  # DNSMOS's overall quality, 1 to 5
    real_time_factor: float | None  # seconds of computing for one of speech; None for natural clips
    failures: int  # utterances with problems: sounds skipped or repeated, or no end
    count: int


@dataclass(frozen=True)
class Evaluation:
    """The clone beside the natural voice."""

    voice: Measures
    natural: Measures
    rows: tuple[Row, ...]
    engine: str  # who listened, engine:model

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self)


def evaluate(
    synthesizer: Speaker,
    sentences: Sequence[str] = SENTENCES,
    *,
    engine: str = "auto",
    model: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Let a voice speak, and measure what is heard.

    Parameters
    ----------
    synthesizer : Synthesizer
        Or anything else with ``voice`` and ``say(text) -> Utterance``.
    sentences : sequence of str
        What it says; sentences it never trained on.
    engine, model : str
        Who listens, as for `voiceclone.transcribe.load_transcriber`.
    progress : callable or None
        Called with utterances done and utterances in all, natural ones included.

    Returns
    -------
    Evaluation
        The natural clips of the voice are measured alike. Each of them is compared with the mean of the others,
        so their likeness is what a perfect clone would reach.

    Raises
    ------
    VoiceError
        If the voice has no clips to compare with, or a sentence is one it trained on.
    """
    if not sentences:
        raise VoiceCloneError("There are no sentences to say. Give at least one, or leave them out for the usual ones.")
    clips = _natural_clips(synthesizer.voice, sentences)
    listener = load_transcriber(engine, model)
    total = len(clips) + len(sentences)
    waves = [load(synthesizer.voice.clip_path(clip.id)) for clip in clips]
    embeddings = [embed(*wave) for wave in waves]
    natural = []
    for clip, wave, alike in zip(clips, waves, _natural_likeness(waves, embeddings), strict=True):
        natural.append(_row(listener, clip.transcript, *wave, alike))
        if progress:
            progress(len(natural), total)
    own = mean_embedding(embeddings)
    rows, spent, spoken = [], 0.0, 0.0
    for text in sentences:
        said = synthesizer.say(text)
        alike = likeness_to(own, said.wave, said.sample_rate)
        rows.append(_row(listener, text, said.wave, said.sample_rate, alike, said.problems))
        spent, spoken = spent + said.seconds_spent, spoken + said.duration
        if progress:
            progress(len(clips) + len(rows), total)
    return Evaluation(
        voice=_measures(rows, spent / spoken if spoken else None),
        natural=_measures(natural),
        rows=tuple(rows),
        engine=f"{listener.engine}:{listener.model}",
    )


def opinion_score(wave: np.ndarray, sample_rate: int) -> float:
    """Predict how listeners would rate the quality of a wave (samples,), 1 to 5: DNSMOS's overall score.

    DNSMOS (Reddy et al. 2022) was made for noise suppressors: it hears noise and distortion, not a wrong melody.
    """
    if len(wave) == 0 or not np.any(wave):
        return LOWEST_OPINION
    from speechmos import dnsmos

    wave = np.clip(resample(np.asarray(wave, dtype=np.float32), sample_rate, OPINION_RATE), -1, 1)
    if len(wave) < OPINION_WINDOW:
        wave = np.resize(wave, OPINION_WINDOW)  # repeats it
    return float(dnsmos.run(wave, sr=OPINION_RATE)["ovrl_mos"])


def measure(
    recordings: Iterable[tuple[str, np.ndarray, int]], speaker: np.ndarray, *, engine: str = "auto"
) -> Measures:
    """Measure recordings as `evaluate` measures what a voice says.

    Parameters
    ----------
    recordings : iterable of (str, np.ndarray, int)
        What should be heard, the wave (samples,), its sample rate in Hz.
    speaker : np.ndarray, shape (256,)
        Embedding of the voice that they are compared with.
    engine : str
        Who listens.
    """
    listener = load_transcriber(engine)
    return _measures([_row(listener, text, w, rate, likeness_to(speaker, w, rate)) for text, w, rate in recordings])


def _natural_clips(voice: Voice, sentences: Sequence[str]) -> list[Clip]:
    usable = voice.usable()
    if not usable:
        raise VoiceError(
            f"{voice.name} has no clip that is accepted and cleaned, so there is nothing to compare the clone with. "
            "Go through notebooks 01 to 03 first."
        )
    trained = {tuple(words(clip.transcript)): clip.id for clip in usable}
    for sentence in sentences:
        if clip_id := trained.get(tuple(words(sentence))):
            raise VoiceError(
                f"{sentence!r} is clip {clip_id}, which the voice trains on: saying it proves nothing. Choose another."
            )
    spread = np.linspace(0, len(usable) - 1, min(len(usable), MOST_NATURAL)).round().astype(int)
    return [usable[k] for k in spread]


def _natural_likeness(waves: list[tuple[np.ndarray, int]], embeddings: list[np.ndarray]) -> list[float]:
    """Of each clip to the mean of the others; of a single clip, between its halves."""
    if len(waves) == 1:
        wave, rate = waves[0]
        return [likeness(*(embed(half, rate) for half in np.array_split(wave, 2)))]
    return [
        likeness(one, mean_embedding(embeddings[:k] + embeddings[k + 1 :])) for k, one in enumerate(embeddings)
    ]


def _row(
    listener: Transcriber, text: str, wave: np.ndarray, sample_rate: int, alike: float, problems: tuple[str, ...] = ()
) -> Row:
    heard = listener.hear(wave, sample_rate).text
    return Row(text, heard, word_error_rate(text, heard), alike, opinion_score(wave, sample_rate), tuple(problems))


def _measures(rows: list[Row], real_time_factor: float | None = None) -> Measures:
    return Measures(
        word_error_rate=word_error_rate([row.text for row in rows], [row.heard for row in rows]),
        likeness=float(np.mean([row.likeness for row in rows])),
        opinion_score=float(np.mean([row.opinion_score for row in rows])),
        real_time_factor=real_time_factor,
        failures=sum(bool(row.problems) for row in rows),
        count=len(rows),
    )
