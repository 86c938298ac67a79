"""The choice of a device and of the precision of the network on it."""

import ctypes
from typing import TYPE_CHECKING

from sagd_cli.errors import UsageError

if TYPE_CHECKING:
    import torch


# Of malloc.h: above which size freed memory goes back to the system, and from which size on arrays bypass the heap.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 2**28), (-3, 2**25)


def keep_freed_memory() -> None:
    """Let glibc keep the arrays of a step for the next one; does nothing where there is another C library.

    By its own rule it returns them to the system and has every page of them faulted in again, or not, by chance:
    drawing noise took 18 ms or 34 ms a batch.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(*_TRIM_THRESHOLD)
        mallopt(*_MMAP_THRESHOLD)


def choose_device(name: str) -> "torch.device":
    """Return the device for auto | cpu | cuda | cuda:N; raise UsageError for one that is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise UsageError(f"unknown device {name!r}", "Devices are auto, cpu, cuda and cuda:N.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine or this build of torch has no CUDA", "Use --device auto or cpu.")
    if index and int(index) >= torch.cuda.device_count():
        raise UsageError(f"there is no {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def autocast_dtype(precision: str, device: "torch.device") -> "torch.dtype | None":
    """Return bfloat16 for bf16, or for auto on CUDA; None means float32 throughout."""
    import torch

    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if wanted else None
