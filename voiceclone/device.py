"""Which device to compute on, and in which precision: the one place that chooses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import UnavailableError


def choose_device(device: str | None = None) -> str:
    """Return `device` if it is there; without one, a GPU when there is one, else the CPU.

    Parameters
    ----------
    device : str or None
        ``"cpu"``, ``"cuda"``, or one of several GPUs: ``"cuda:1"``.

    Raises
    ------
    UnavailableError
        If the device that was asked for is not there.
    """
    import torch

    if device is None:
        asked_for_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")  # `accelerate launch`
        return "cuda" if torch.cuda.is_available() and not asked_for_cpu else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UnavailableError(f"device={device!r} is not known. Use 'cpu', 'cuda', or one of several GPUs: 'cuda:1'.")
    if device != "cpu" and not torch.cuda.is_available():
        raise UnavailableError(
            f"There is no GPU here for device={device!r}. Use device='cpu', or on Colab: Runtime > Change runtime type."
        )
    _, _, number = device.partition(":")
    if number and int(number) >= (count := torch.cuda.device_count()):
        raise UnavailableError(f"There is no {device} here: the GPUs are cuda:0 to cuda:{count - 1}.")
    return device


def fast_precision(device: str) -> str:
    """The precision in which `device` multiplies fastest and still learns: ``"bf16"``, ``"fp16"`` or ``"no"``.

    A GPU has bf16 from NVIDIA's Ampere on (torch says so of a T4 too, which only emulates it, slowly), and fp16 that is
    faster than float32 from Volta on. On a processor only bf16 in hardware counts.
    """
    import torch

    if device.startswith("cuda"):
        generation, _ = torch.cuda.get_device_capability(device)
        return "bf16" if generation >= 8 else "fp16" if generation == 7 else "no"
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.9
        return "no"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "no"


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Let a block draw the random numbers that follow from a seed; those drawn after it are as if it had not been."""
    import torch

    with torch.random.fork_rng([device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def without_denormals() -> Iterator[None]:
    """Let a block take numbers below 1e-38 for 0: a processor computes with them many times slower, to no avail."""
    import torch

    before = bool(torch.tensor(1e-38) * 0.1 == 0)  # torch does not tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
