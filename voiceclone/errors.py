"""The errors a user can meet: each message says what was found, what was expected and what to do next."""

from __future__ import annotations


class VoiceCloneError(Exception):
    """Root of every error that voiceclone raises on purpose."""


class AudioError(VoiceCloneError):
    """A sound that cannot be read, written or used."""


class VoiceError(VoiceCloneError):
    """A voice folder that is missing, incomplete or not allowed to be used."""


class TextError(VoiceCloneError):
    """Text that cannot be spoken."""


class AlignmentError(VoiceCloneError):
    """A clip whose sounds do not follow its text."""


class CheckpointError(VoiceCloneError):
    """A file of weights that is torn, of another model, or not what its hash says."""


class TrainingError(VoiceCloneError):
    """Training that cannot begin or must not go on."""


class UnavailableError(VoiceCloneError):
    """Something that this machine does not have: a microphone, a network, a package."""
