"""Google Colab: whether this is it, and the user's Drive, where the voice outlives the machine."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from .drive import DRIVE
from .errors import UnavailableError

VOICES_ON_DRIVE = DRIVE / "MyDrive" / "voiceclone" / "voices"
# Compute units an hour, as Colab's panel showed them in September 2022; the L4, which came later, in April 2024. They
# have been lowered since, and differ from time to time; "Resources" in Colab's menu says what holds today.
UNITS_AN_HOUR = {"T4": 1.96, "L4": 4.82, "V100": 5.36, "A100": 13.08}


def is_colab() -> bool:
    """Whether this Python runs on Google Colab."""
    return "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules


def mount_drive() -> Path:
    """Mount the user's Drive, which asks for their consent the first time.

    Returns
    -------
    Path
        The top folder of the Drive.

    Raises
    ------
    UnavailableError
        If this is not Colab, or the Drive was refused.
    """
    top = DRIVE / "MyDrive"
    if top.is_dir():
        return top
    try:
        from google.colab import drive

        drive.mount(str(DRIVE))
    except (ImportError, NotImplementedError) as error:
        raise UnavailableError(
            "There is no Google Drive to mount here. Give voice_path a folder that outlives this machine."
        ) from error
    except (ValueError, OSError, RuntimeError) as error:
        raise UnavailableError(
            f"The Google Drive was not mounted ({error}). Run the cell again and allow it, or give voice_path an "
            "absolute path on this machine (/content/...), which is lost when the machine goes."
        ) from error
    return top


def voices_root() -> Path:
    """Where voice folders lie: in the Drive on Colab, in ``voices`` here elsewhere."""
    if not is_colab():
        return Path("voices")
    mount_drive()
    VOICES_ON_DRIVE.mkdir(parents=True, exist_ok=True)
    return VOICES_ON_DRIVE


def home(voice_path: str | Path) -> Path:
    """Where a notebook's voice lies: the path itself, but in the Drive if it is a relative one on Colab.

    Parameters
    ----------
    voice_path : str or Path
        As in the notebook's parameters; its last part is the voice's name.
    """
    path = Path(voice_path)
    return voices_root() / path.name if is_colab() and not path.is_absolute() else path


def compute_units(seconds: float) -> float | None:
    """Estimate how many of Colab's compute units a time on this machine's GPU costs, rather too many than too few.

    Parameters
    ----------
    seconds : float
        For example a `Step`'s ``seconds_left``.

    Returns
    -------
    float or None
        None where this is not Colab, there is no GPU, or nothing is known of its price.
    """
    import torch

    if not is_colab() or not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    rate = next((rate for model, rate in UNITS_AN_HOUR.items() if re.search(rf"\b{model}\b", name)), None)
    return None if rate is None else seconds / 3600 * rate


def cost(seconds: float) -> str:
    """What a time on this machine costs, in words; "" where it costs nothing that is known."""
    units = compute_units(seconds)
    return "" if units is None else f"at most {units:.1f} compute units"


def time_left(seconds: float) -> str:
    """The time that is left, in words, with what it costs on Colab."""
    minutes = round(seconds / 60)
    left = f"about {minutes} minutes left" if minutes else "less than a minute left"
    return ", ".join(filter(None, (left, cost(seconds))))
