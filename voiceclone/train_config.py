"""How a voice is trained: the settings and the budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import TrainingError, VoiceCloneError
from .learn import LearnConfig, learn_config
from .schedule import FAKEYOU_BATCH, FAKEYOU_EPOCHS, SCHEDULES, Exponential
from .tacotron2 import PRESETS, Tacotron2Config

BASE = Path(__file__).parent.parent / "data" / "base"  # made by `python -m voiceclone pretrain`
DEFAULT_MINUTES = {"small": 8.0, "full": 60.0}  # for 25 clips, on two cores and on a T4
# From the project's base 25 clips teach in so many steps what they can: on held-out clips the loss rises after them. A
# hundred clips in twice as many were learned no better.
ENOUGH_STEPS = 300
SPEAKER_SIZE = 256  # of the embeddings of `speaker`


@dataclass(frozen=True)
class TrainConfig:
    """How a voice is trained. The budget is in minutes, steps or epochs, whichever is spent first."""

    preset: str = "small"  # small (a laptop) or full (a GPU)
    minutes: float | None = None  # over all sessions; None = `default_minutes`, unless steps or epochs are given
    steps: int | None = None  # optimiser steps, over all sessions; None = as many as `for_clips` says, if it says any
    epochs: int | None = None  # times that every clip is learned from, over all sessions
    run: str = "main"  # name of the folder below runs/
    resume: bool = True  # go on from the newest whole checkpoint; False begins anew
    # A base's folder, a checkpoint as a file, URL#sha256=..., hf://owner/name/file or known name (`download.fetch`),
    # or "scratch"; None = data/base for small.
    start: str | None = None
    previews: int = 6  # how often over the budget the voice is listened to; at most once a minute
    listener: str = "whisper"  # engine that hears the previews; "" judges by alignment and loss alone
    vocoder: str = "hifigan"
    seed: int = 1234
    device: str | None = None  # None chooses
    speaker: bool = False  # give the full preset a speaker embedding too, for bases of many speakers
    # Of the learning rate: cosine, fakeyou, or FakeYou's with other values. FakeYou's brings its batches of 6 clips
    # where no batch_size is given, and its 250 epochs where no minutes, steps or epochs are.
    schedule: str | Exponential = "cosine"
    batch_size: int | None = None  # clips a step, over all processes; None fits the number of clips
    attention_dropout: float | None = None  # of the attention's LSTM; None = the preset's, 0.1 as FakeYou's
    decoder_dropout: float | None = None  # of the decoder's LSTM, likewise
    compile: bool = False  # merge the decoder's many small kernels on a GPU, see `LearnConfig`
    tensorboard: bool = True  # write TensorBoard's logs too, where it is installed
    learn: LearnConfig | None = None  # all of how the weights are changed; None = `learn_config`

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise VoiceCloneError(f"preset={self.preset!r} is not known; there are {', '.join(PRESETS)}.")
        above_zero = (self.minutes, self.steps, self.epochs, self.batch_size, self.previews)
        if any(value is not None and value <= 0 for value in above_zero):
            raise VoiceCloneError(
                f"minutes={self.minutes}, steps={self.steps}, epochs={self.epochs}, batch_size={self.batch_size} and "
                f"previews={self.previews} must be above zero."
            )
        if isinstance(self.schedule, str) and self.schedule not in SCHEDULES:
            raise VoiceCloneError(f"schedule={self.schedule!r} is not known; there are {', '.join(SCHEDULES)}.")
        if self.learn is not None and (self.exponential or self.batch_size or self.compile):
            raise VoiceCloneError(
                f"learn= says all of how the weights are changed; schedule={self.schedule!r}, batch_size="
                f"{self.batch_size} and compile={self.compile} beside it would say nothing. Give them in LearnConfig."
            )
        shares = (self.attention_dropout, self.decoder_dropout)
        if any(share is not None and not 0 <= share < 1 for share in shares):
            raise VoiceCloneError(
                f"attention_dropout={self.attention_dropout} and decoder_dropout={self.decoder_dropout} must be in "
                "[0, 1)."
            )

    @property
    def sizes(self) -> Tacotron2Config:
        """Of the model that is trained, and its dropouts."""
        chosen = {
            "speaker_dim": SPEAKER_SIZE if self.speaker else None,
            "attention_dropout": self.attention_dropout,
            "decoder_dropout": self.decoder_dropout,
        }
        return replace(PRESETS[self.preset], **{name: value for name, value in chosen.items() if value is not None})

    @property
    def exponential(self) -> Exponential | None:
        """FakeYou's schedule, where that is chosen."""
        return SCHEDULES[self.schedule] if isinstance(self.schedule, str) else self.schedule

    @property
    def begins_with(self) -> str | None:
        """What `start` says, else for small the project's base; None where that is not there: random weights."""
        has_base = self.preset == "small" and (BASE / "config.json").exists()
        return str(BASE) if self.start is None and has_base else self.start

    def check_start(self, began_with: str | None, run: Path) -> None:
        """Refuse to go on with what began with something else than is asked for; where nothing is, all goes on.

        Parameters
        ----------
        began_with : str or None
            `begins_with` of the run's first session, or "scratch"; None if that is not known.
        run : Path
            The run's folder.

        Raises
        ------
        TrainingError
            If they differ.
        """
        if self.start and began_with and not _same_place(self.start, began_with):
            raise TrainingError(
                f"{run} began with {began_with}, asked for is start={self.start!r}. To go on leave start out; to begin "
                "with that give another run=, or resume=False, which drops what was learned."
            )

    def for_clips(self, count: int) -> TrainConfig:
        """The same with a budget, if it has none; from the project's base never more steps than clips can teach in."""
        if self.steps is not None or self.epochs is not None:
            return self
        if self.exponential and self.minutes is None:
            return replace(self, epochs=FAKEYOU_EPOCHS)
        minutes = default_minutes(self.preset, count) if self.minutes is None else self.minutes
        enough = round(ENOUGH_STEPS * min(growth(count), 1.0)) if self.begins_with == str(BASE) else None
        return replace(self, minutes=minutes, steps=enough)

    def learn_config(self, count: int, *, based: bool, device: str) -> LearnConfig:
        """How the weights are changed, learning from so many clips."""
        if self.learn is not None:
            return self.learn
        chosen = learn_config(self.preset, count, based=based, device=device)
        batch_size = self.batch_size or (min(FAKEYOU_BATCH, count) if self.exponential else chosen.batch_size)
        return replace(chosen, schedule=self.exponential, batch_size=batch_size, compile=self.compile)

    @property
    def previews_due(self) -> int:
        """Previews over the budget: each costs some ten seconds on a laptop, which a short budget cannot spare."""
        return self.previews if self.minutes is None else max(1, min(self.previews, int(self.minutes)))


def _same_place(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()


def random_start(preset: str) -> str:
    """What to say where a training begins with random weights and nobody has asked for them."""
    known = {"small": f"a base, which belongs in {BASE}", "full": "a checkpoint, for example start='nvidia-ljspeech'"}
    return (
        "This training begins with random weights, so that a voice of few clips will hardly be understood. Begin with "
        f"{known[preset]}."
    )


def default_minutes(preset: str, count: int) -> float:
    """Minutes that suit a number of clips."""
    return DEFAULT_MINUTES[preset] * growth(count)


def growth(count: int) -> float:
    """How much longer to train than with 25 clips: more have more to teach, but each is worth less.

    The clips' square root, from half as long for 6 clips to four times as long for 400.
    """
    return min(max(math.sqrt(count / 25), 0.5), 4.0)


def share_spent(config: TrainConfig, steps: int = 0, seconds: float = 0.0, epochs: float = 0.0) -> float:
    """Share of the budget that is spent, from 0; 1 and more when it is time to end."""
    spent = ((seconds / 60, config.minutes), (steps, config.steps), (epochs, config.epochs))
    return max(used / budget for used, budget in spent if budget is not None)
