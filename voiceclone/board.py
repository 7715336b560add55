"""What TensorBoard shows of a training: curves, pictures and sounds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .listen import Preview
    from .train import Step

CURVES = ("loss", "mel_loss", "gate_loss", "attention_loss", "pitch_loss", "grad_norm", "learning_rate", "epoch")


class Board:
    """Writes a run's ``tensorboard`` folder; see it with ``tensorboard --logdir``."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    def open(cls, folder: Path, *, after: int) -> tuple[Board | None, str]:
        """Go on writing after a step.

        Returns
        -------
        Board or None
            None where TensorBoard is not installed.
        str
            What the user should know; "" if nothing.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None, "TensorBoard's logs are left out: it is not installed (pip install tensorboard)."
        return cls(SummaryWriter(str(folder), purge_step=after + 1, flush_secs=30)), ""

    def add(self, step: Step) -> None:
        """Add what is known after a step; nothing any more once the disk did not take it."""
        if self._writer is None:
            return
        try:
            self._add(step)
        except OSError as error:
            self._give_up(error)

    def _add(self, step: Step) -> None:
        for name in CURVES:
            self._writer.add_scalar(f"training/{name}", getattr(step, name), step.step)
        for name, value in step.validation.items():
            self._writer.add_scalar(f"validation/{name}", value, step.step)
        if step.preview is not None:
            self._add_preview(step.preview)

    def _add_preview(self, preview: Preview) -> None:
        for name, image in (
            ("alignment", preview.alignment.T),  # (decoder steps, symbols) -> (symbols, decoder steps)
            ("mel predicted", preview.mel_predicted),
            ("mel true", preview.mel_true),
        ):
            self._writer.add_image(f"preview/{name}", _grey(image), preview.step, dataformats="HW")
        self._writer.add_audio(
            "preview/sound", preview.wave[np.newaxis], preview.step, sample_rate=preview.sample_rate
        )
        self._writer.add_text("preview/text", f"{preview.text} (heard: {preview.heard or '-'})", preview.step)

    def close(self) -> None:
        """Write what is waiting."""
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        warnings.warn(f"TensorBoard's logs are not written any more ({error}); the training's own are.", stacklevel=3)


def _grey(values: np.ndarray) -> np.ndarray:
    """(rows, columns) of any range as a picture from 0 to 1, its first row below."""
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-8))[::-1]
