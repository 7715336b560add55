"""The vocoder that was tuned to a voice: where it lies in a run's folder, and who speaks if there is none."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..drive import VOCODER as FOLDER
from ..drive import WAVEGLOW, working_folder
from ..errors import CheckpointError
from ..files import file_hash
from . import Vocoder, load_vocoder

if TYPE_CHECKING:
    import torch

    from ..voice import Voice

TUNED = "hifigan_tuned"  # what a run's own vocoder is called
WAVEGLOW_TUNED = "waveglow_tuned"  # and its own WaveGlow, which speaks only where it is asked for
AUTO = "auto"  # the run's own where there is one, else HiFi-GAN's universal one
GENERATOR = "generator.pt"
WEIGHTS = "waveglow.pt"


def generator_of(run: Path) -> Path:
    """File of the generator that was tuned to a run, whether there is one or not.

    It is the one in the run's folder, or the one on this machine that has not been copied there yet.
    """
    return _newest(run, f"{FOLDER}/{GENERATOR}")


def waveglow_of(run: Path) -> Path:
    """File of the WaveGlow that was tuned to a run, as for `generator_of`."""
    return _newest(run, f"{WAVEGLOW}/{WEIGHTS}")


def _newest(run: Path, name: str) -> Path:
    lasting = run / name
    found = [path for path in (lasting, working_folder(run) / name) if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=lasting)


def tuning_of(generator: Path) -> dict[str, Any]:
    """How a generator was tuned, which ``config.json`` beside it tells; empty where nothing does."""
    with suppress(OSError, ValueError):
        return json.loads(generator.with_name("config.json").read_text(encoding="utf-8"))
    return {}


def tuned_vocoder(voice: Voice, run: str | None = None) -> str | None:
    """What `load_vocoder` calls the generator that was tuned to a voice; None where there is none.

    Parameters
    ----------
    voice : Voice
    run : str or None
        Training run; None takes the one that was tuned last.
    """
    runs = [voice.run_dir(run)] if run else list(voice.runs_dir.glob("*"))
    files = [path for folder in runs if (path := generator_of(folder)).is_file()]
    return f"hifigan:{max(files, key=lambda path: path.stat().st_mtime)}" if files else None


def load_vocoder_of(
    run: Path, name: str = AUTO, device: str | torch.device = "cpu", *, denoise: float = 0.0
) -> Vocoder:
    """Make the vocoder ready with which a run shall speak.

    Parameters
    ----------
    run : Path
        The run's folder.
    name : str
        `TUNED`, `WAVEGLOW_TUNED`, `AUTO`, or any that `load_vocoder` knows.
    device : str or torch.device
        Where to compute.
    denoise : float
        For WaveGlow, as `load_vocoder` has it.

    Raises
    ------
    CheckpointError
        If no vocoder was tuned to the run, but that one is asked for.

    Warns
    -----
    UserWarning
        If the run was trained since its vocoder was tuned to it.
    """
    own = waveglow_of(run) if name == WAVEGLOW_TUNED else generator_of(run)
    if name not in (TUNED, WAVEGLOW_TUNED, AUTO) or (name == AUTO and not own.is_file()):
        return load_vocoder("hifigan" if name == AUTO else name, device=device, denoise=denoise)
    kind = "waveglow" if name == WAVEGLOW_TUNED else "hifigan"
    if not own.is_file():
        raise CheckpointError(
            f"No vocoder was tuned to the run {run.name!r}: there is no {own}. "
            f"Tune one (python -m voiceclone tune VOICE --vocoder {kind}), or speak with hifigan."
        )
    vocoder = load_vocoder(kind, own, device, denoise=denoise)
    vocoder.name = TUNED if name == AUTO else name
    _check_state(run, own)
    return vocoder


def _check_state(run: Path, own: Path) -> None:
    """Warn where the Tacotron 2 to whose spectrograms a vocoder was tuned is no longer what it was."""
    known = tuning_of(own)
    if "drawn_by" in known:
        path = run / "checkpoints" / known["checkpoint"]
        now = file_hash(path) if path.is_file() else ""
        if now != known["drawn_by"]:
            _warn(run, now)


@cache  # once for each state, however often the run is opened
def _warn(run: Path, now: str) -> None:
    warnings.warn(
        f"The run {run.name!r} has been trained since its vocoder was tuned to it. It speaks all the same; to tune it "
        f"to the run as it is now: python -m voiceclone tune VOICE --run {run.name} (or tune_minutes in notebook 06).",
        stacklevel=4,
    )
