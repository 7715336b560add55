"""Which device to compute on: the one place that chooses."""

from __future__ import annotations

from .errors import UnavailableError


def choose_device(device: str | None = None) -> str:
    """Return `device` if it is there; without one, a GPU when there is one, else the CPU.

    Raises
    ------
    UnavailableError
        If the device that was asked for is not there.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UnavailableError(
            f"There is no GPU here for device={device!r}. Use device='cpu', or on Colab: Runtime > Change runtime type."
        )
    return device
