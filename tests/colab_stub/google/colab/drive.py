"""The user's Drive: a folder that the environment variable COLAB_STUB_DRIVE names."""

import os
from pathlib import Path


def mount(mountpoint, force_remount=False, timeout_ms=120_000, readonly=False):
    if " " in mountpoint:
        raise ValueError("Mountpoint must not contain a space.")
    Path(os.environ["COLAB_STUB_DRIVE"], "MyDrive").mkdir(parents=True, exist_ok=True)
