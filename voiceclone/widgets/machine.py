"""What this machine offers, as a table."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from ..record import microphones
from .panel import Markup, table


def machine(folder: str | Path = ".") -> Markup:
    """Python, processor, GPU, microphone, and the space there is for `folder`."""
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    rows = [
        ("Python", f"{platform.python_version()} on {platform.system()}"),
        ("processor", f"{os.cpu_count()} cores"),
        ("GPU", _gpu()),
        ("microphone of this machine", ", ".join(microphones()) or "none: notebook 01 records through the browser"),
        ("free space for the voice", f"{free:.0f} GB at {existing}"),
    ]
    return table(rows)


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        return f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB"
    return "none: training runs on the processor"
