"""Which device to compute on, and in which precision: the one place that chooses."""

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


def fast_precision(device: str) -> str:
    """``"bf16"`` where `device` multiplies bfloat16 faster than float32, else ``"no"``, as accelerate calls them."""
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.9
        return "no"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "no"
