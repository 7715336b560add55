"""Clone your own voice from 25 recorded sentences.

Importing this package does nothing but define names: torch, transformers and matplotlib are imported when a
function first needs them.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {"Voice": "voice", "Consent": "voice", "Clip": "voice", "AudioConfig": "audio", "VoiceCloneError": "errors"}

__all__ = ["AudioConfig", "Clip", "Consent", "Voice", "VoiceCloneError", "__version__"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
