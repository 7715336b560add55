"""The report of a voice: one HTML file with its figures and sounds inside, readable in any browser, light or dark."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import atomic_write
from .log import Log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .voice import Clip, Voice

TEMPLATE = "report.html"
DOTS_PER_INCH = 120  # of figures 10 inches wide: sharp at 1000 pixels on most screens, about 100 kB each
MOST_SAMPLES = 12  # sounds that the page carries; the rest is in the folder


@dataclass(frozen=True)
class Sound:
    """A player and what stands beside it."""

    label: str
    address: str  # a data: address, or a path relative to the report
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table of clips."""

    clip: Clip
    seconds: float | None
    sound: str  # path relative to the report, "" if there is none


def write_report(voice: Voice, *, run: str | None = None) -> Path:
    """Write ``report.html`` from whatever the voice folder holds so far.

    Parameters
    ----------
    voice : Voice
        May be at any stage; what is not there yet is left out.
    run : str, optional
        The training run to show; by default the one that was trained last.

    Returns
    -------
    Path
        The report.
    """
    from importlib.resources import files

    from jinja2 import Environment

    template = files("voiceclone").joinpath("templates", TEMPLATE).read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    content = page.render(
        voice=voice,
        written=datetime.now().strftime("%d %B %Y, %H:%M"),
        evaluation=read_evaluation(voice),
        samples=_samples(voice),
        rows=_rows(voice),
        **_data(voice),
        **_training(voice, run),
        **_measured(voice),
    )
    with atomic_write(voice.report_path, "w") as file:
        file.write(content)
    return voice.report_path


def latest_run(voice: Voice) -> str | None:
    """Name of the run that was trained last, if any was."""
    logs = sorted(voice.runs_dir.glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime)
    return logs[-1].parent.name if logs else None


def read_evaluation(voice: Voice) -> Any:
    """What notebook 06 or ``voiceclone evaluate`` measured last, with the fields of `Evaluation`; None if nothing."""
    path = voice.samples_dir / "evaluation.json"
    if not path.exists():
        return None
    return json.loads(
        path.read_text(encoding="utf-8"), object_hook=lambda entries: SimpleNamespace(**entries)
    )


# Sections of the page; each gives the template's variables ----------------------------------------------------------


def _samples(voice: Voice) -> list[Sound]:
    newest = sorted(voice.samples_dir.glob("[!.]*.wav"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [Sound(path.stem, _embedded(path), f"samples/{path.name}") for path in newest[:MOST_SAMPLES]]


def _rows(voice: Voice) -> list[Row]:
    return [Row(clip, *_clip_sound(voice, clip)) for clip in voice.clips]


def _clip_sound(voice: Voice, clip: Clip) -> tuple[float | None, str]:
    import soundfile

    path = voice.clip_path(clip.id)
    return (soundfile.info(path).duration, f"clips/{path.name}") if path.exists() else (None, "")


def _data(voice: Voice) -> dict[str, Any]:
    """The data set as training sees it, and one clip before and after cleaning."""
    from . import plots
    from .audio import load
    from .report import dataset_report

    usable = voice.usable()
    if not usable:
        return {"dataset": None}
    clip = usable[0]
    before, after = (
        load(voice.take_path(clip), sample_rate=None) if clip.take else None,
        load(voice.clip_path(clip.id)),
    )
    cleaning = plots.before_after(*before, *after) if before else plots.take(*after)
    report = dataset_report(voice)
    return {"dataset": report, "data_figure": _image(plots.dataset(report)), "cleaning": _image(cleaning),
            "cleaned_clip": clip}  # fmt: skip


def _training(voice: Voice, run: str | None) -> dict[str, Any]:
    """Losses, and the newest preview: its attention, its spectrogram beside the recorded one, its sound."""
    from . import plots

    run = run or latest_run(voice)
    steps = Log(voice.run_dir(run) / "log.jsonl").read() if run else []
    if not steps:
        return {"run": None}
    found: dict[str, Any] = {
        "run": run,
        "last": SimpleNamespace(**steps[-1]),
        "losses": _image(plots.losses(steps)),
    }
    previews = sorted(voice.run_dir(run).glob("previews/step-*.npz"))
    if previews:
        with np.load(previews[-1]) as arrays:
            preview = {name: arrays[name] for name in arrays}
        symbols = tuple(map(str, preview["symbols"]))
        found["alignment"] = _image(
            plots.alignment(preview["alignment"], symbols, title=str(preview["text"]))
        )
        found["heard"] = str(preview["heard"])
        if preview["mel_true"].ndim == 2:
            found["mels"] = _image(plots.mel_comparison(preview["mel_predicted"], preview["mel_true"]))
        spoken = previews[-1].with_suffix(".wav")
        if spoken.exists():
            found["preview"] = Sound(str(preview["text"]), _embedded(spoken))
    return found


def _measured(voice: Voice) -> dict[str, Any]:
    from . import plots

    result = read_evaluation(voice)
    return {"evaluation_figure": _image(plots.evaluation(result))} if result else {}


def _image(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return _address("image/png", stream.getvalue())


def _embedded(path: Path) -> str:
    """A sound as FLAC, which every browser plays and which is half the size of a wav file."""
    import soundfile

    wave, rate = soundfile.read(path, dtype="int16")
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format="FLAC", subtype="PCM_16")
    return _address("audio/flac", stream.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
