"""Hearing the clone: what it says, who of its checkpoints and vocoders says it, and how they compare."""

from __future__ import annotations

import html
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import VoiceCloneError
from ..vocoders.tuned import TUNED, tuned_vocoder
from .panel import Markup, table
from .players import image, player, sound
from .views import LivePanel

if TYPE_CHECKING:
    from ..synthesize import Synthesizer, Utterance
    from ..voice import Voice

VOCODERS = ("griffin_lim", "hifigan", TUNED)
MOST_OPEN = 2  # synthesizers kept in memory: enough to compare two
MOST_REMEMBERED = 12  # utterances that can be heard again


@dataclass(frozen=True)
class Candidate:
    """Who speaks: a checkpoint of a run, and the vocoder that makes it audible."""

    run: str
    checkpoint: str
    vocoder: str

    def __str__(self) -> str:
        return f"{self.run}/{self.checkpoint} with {self.vocoder}"


class Cast:
    """Synthesizers, opened when they are first asked to speak and kept as long as they are used."""

    def __init__(self, *known: Synthesizer) -> None:
        self._open: OrderedDict[tuple[str, Candidate], Synthesizer] = OrderedDict()
        for synthesizer in known:
            if synthesizer.voice is not None and synthesizer.checkpoint is not None:
                self._open[str(synthesizer.voice.path), candidate_of(synthesizer)] = synthesizer

    def synthesizer(self, voice: Voice, candidate: Candidate) -> Synthesizer:
        """The one who speaks so."""
        from ..synthesize import Synthesizer

        key = (str(voice.path), candidate)
        if key not in self._open:
            self._open[key] = Synthesizer.open(
                voice, run=candidate.run, checkpoint=candidate.checkpoint, vocoder=candidate.vocoder
            )
        self._open.move_to_end(key)
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return self._open[key]


def candidate_of(synthesizer: Synthesizer) -> Candidate:
    """Who a synthesizer is."""
    path = synthesizer.checkpoint
    return Candidate(path.parent.parent.name, path.stem, synthesizer.vocoder.name)


def checkpoints(voice: Voice, *, run: str = "") -> tuple[tuple[str, str], ...]:
    """Runs and names of a voice's checkpoints: the best first, then the newest."""
    runs = [voice.run_dir(run)] if run else list(voice.runs_dir.glob("*"))
    paths = [path for folder in runs for path in (folder / "checkpoints").glob("[!.]*.pt")]
    ordered = sorted(paths, key=lambda path: (path.stem != "best", -path.stat().st_mtime))
    return tuple((path.parent.parent.name, path.stem) for path in ordered)


def vocoders(voice: Voice, run: str) -> tuple[str, ...]:
    """Vocoders with which a run can speak without weights that the user has to name, the best last."""
    return VOCODERS if tuned_vocoder(voice, run) else VOCODERS[:-1]


def candidates(voice: Voice, *, run: str = "") -> tuple[Candidate, ...]:
    """Everybody who can speak for a voice: each checkpoint with each of its vocoders, the best first."""
    known = checkpoints(voice, run=run)
    return tuple(
        Candidate(name, checkpoint, vocoder)
        for vocoder in reversed(VOCODERS)
        for name, checkpoint in known
        if vocoder in vocoders(voice, name)
    )


def said(utterance: Utterance, *, label: str = "") -> Markup:
    """An utterance as a player, with what was found wrong with it, if anything.

    Parameters
    ----------
    utterance
        What `Synthesizer.say` returned.
    label
        Words above the player; the text that was said when empty.
    """
    heard = player(utterance.wave, utterance.sample_rate, label=label or utterance.text)
    line = verdict(utterance)
    return Markup(f"{heard._repr_html_()}<div>{html.escape(line)}</div>", f"{heard!r} {line}")


def verdict(utterance: Utterance) -> str:
    """How long it is, how long it took, and what is wrong with it."""
    problems = "; ".join(utterance.problems) or "no problem found"
    return f"{utterance.duration:.1f} s of speech in {utterance.seconds_spent:.1f} s: {problems}"


def comparison(utterances: Mapping[str, Utterance]) -> Markup:
    """Utterances under each other, each with its name, its player and its problems."""
    return table([[name, said(utterance)] for name, utterance in utterances.items()], heading=("", "sound"))


def read_aloud(synthesizer: Synthesizer, texts: Iterable[str], *, seed: int = 0) -> Markup:
    """Say several texts, and keep each as ``samples/sentence-<n>.wav``."""
    from ..audio import save

    utterances = {}
    for number, text in enumerate(texts, 1):
        utterance = utterances[str(number)] = synthesizer.say(text, seed=seed)
        save(synthesizer.voice.samples_dir / f"sentence-{number}.wav", utterance.wave, utterance.sample_rate)
    return comparison(utterances)


def compare_vocoders(voice: Voice, text: str, *, run: str, checkpoint: str, seed: int = 0) -> Markup:
    """One text, painted once and made audible by each vocoder in turn."""
    from ..synthesize import Synthesizer

    utterances = {}
    for name in vocoders(voice, run):
        synthesizer = Synthesizer.open(voice, run=run, checkpoint=checkpoint, vocoder=name)
        utterances[name] = synthesizer.say(text, seed=seed)
    return comparison(utterances)


def compare_checkpoints(voice: Voice, text: str, *, run: str, vocoder: str, seed: int = 0) -> Markup:
    """One text said by each checkpoint that a training has kept: the best, and the newest."""
    from ..synthesize import Synthesizer

    utterances = {}
    for path in sorted((voice.run_dir(run) / "checkpoints").glob("[!.]*.pt")):
        synthesizer = Synthesizer.open(voice, run=run, checkpoint=path.stem, vocoder=vocoder)
        utterances[path.stem] = synthesizer.say(text, seed=seed)
    return comparison(utterances)


class SpeakingBox(LivePanel):
    """Type a text, choose who says it and how often it is tried, hear it and see how it was said.

    Parameters
    ----------
    synthesizer
        The voice that speaks at first; the other voices beside it can be chosen too.
    text
        What stands in the line at first.
    """

    script = "speaking.js"

    def __init__(self, synthesizer: Synthesizer, *, text: str = "") -> None:
        super().__init__()
        self.synthesizer, self.first_text = synthesizer, text
        self.utterance: Utterance | None = None
        self._cast = Cast(synthesizer)
        self._said: deque[tuple[int, str, Utterance, Voice]] = deque(maxlen=MOST_REMEMBERED)
        self._count = 0

    def html(self) -> str:
        return f"<i>{html.escape(self.text())}</i>"

    def text(self) -> str:
        return "Type a sentence here and press Speak (needs a live kernel)."

    # The live view ------------------------------------------------------------------------------------------------

    def _voices(self) -> dict[str, Voice]:
        """Every trained voice beside this one."""
        from ..voice import Voice

        own = self.synthesizer.voice
        known = {str(voice.path): voice for voice in Voice.list(own.path.parent) if checkpoints(voice)}
        return {str(own.path): own} | known

    def state(self) -> dict[str, Any]:
        now = candidate_of(self.synthesizer)
        voices = [
            [voice.name, path, [[f"{run}/{name}", f"{run}/{name}"] for run, name in checkpoints(voice)]]
            for path, voice in self._voices().items()
        ]
        known = dict.fromkeys((now.vocoder, *reversed(vocoders(self.synthesizer.voice, now.run))))
        own = str(self.synthesizer.voice.path)
        checkpoint = f"{now.run}/{now.checkpoint}"
        chosen = {"voice": own, "checkpoint": checkpoint, "vocoder": now.vocoder, "takes": 3, "seed": 0}
        return {
            "text": self.first_text,
            "voices": voices,
            "vocoders": [[name.replace("_", " "), name] for name in known],
            "chosen": chosen,
            "remembered": MOST_REMEMBERED,
        }

    def on_speak(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Say a text as it was asked for."""
        from .. import plots

        voice = self._voices()[message["voice"]]
        run, _, name = message["checkpoint"].partition("/")
        candidate = Candidate(run, name, message["vocoder"])
        synthesizer = self._cast.synthesizer(voice, candidate)
        spoken = self.utterance = synthesizer.say(message["text"], takes=message["takes"], seed=message["seed"])
        self._count += 1
        self._said.append((self._count, str(candidate), spoken, voice))
        alignment = plots.alignment(
            spoken.alignment, symbols=spoken.symbols, seconds_per_step=synthesizer.seconds_a_step
        )
        return {
            "number": self._count,
            "words": spoken.text,
            "label": f"{voice.name}, {candidate}, best of {message['takes']}, seed {message['seed']}",
            "verdict": verdict(spoken),
            "ok": spoken.ok,
            "said": "Another seed says it a little differently.",
            "buffers": [sound(spoken.wave, spoken.sample_rate), image(alignment), image(plots.spectrogram(spoken.mel))],
        }

    def on_keep(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Write an utterance into ``samples/``."""
        from ..audio import save

        for number, _, utterance, voice in self._said:
            if number == message["number"]:
                path = _free_path(voice, utterance.text)
                save(path, utterance.wave, utterance.sample_rate)
                return {"said": f"Kept as {path.name} in {path.parent}."}
        raise VoiceCloneError("This one is no longer there: say it again, then keep it.")


def _free_path(voice: Voice, text: str) -> Any:
    """A name in ``samples/`` that tells what is said and is nobody's yet."""
    words = "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split()[:6])
    names = (f"{words}{f'-{number}' if number > 1 else ''}.wav" for number in range(1, 1000))
    return next(path for name in names if not (path := voice.samples_dir / name).exists())
