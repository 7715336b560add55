"""Stands for google.colab in tests: only what voiceclone and anywidget touch of it."""

from . import drive, files, output

__all__ = ["drive", "files", "output"]
