"""The choice of a device, of the precision of the network on it, and the memory that is free there."""

import ctypes
from pathlib import Path
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


def peak_memory(device: "torch.device") -> int:
    """Return the most memory used so far, in bytes: by tensors on CUDA, by this process on the CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Not getrusage: a process inherits the peak of the one that started it.
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def autocast_dtype(precision: str, device: "torch.device") -> "torch.dtype | None":
    """Return bfloat16 for bf16, or for auto on CUDA; None means float32 throughout."""
    import torch

    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if wanted else None


def available_memory(device: "torch.device") -> int | None:
    """Return the bytes that are free on `device`, on the CPU within its control group; None where that is unknown."""
    if device.type == "cuda":
        import torch

        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    groups = Path("/sys/fs/cgroup")
    known = [
        _free_of_machine(Path("/proc/meminfo")),
        _free_of_group(groups, "memory.max", "memory.current"),
        _free_of_group(groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ]
    return min((free for free in known if free is not None), default=None)


def _free_of_machine(meminfo: Path) -> int | None:
    try:
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None


def _free_of_group(folder: Path, limit: str, usage: str) -> int | None:
    """What a control group may still take: files it has read count as used, but give way."""
    try:
        room = int((folder / limit).read_text()) - int((folder / usage).read_text())
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return room + int(fields["inactive_file"]) + int(fields["active_file"])
    except (OSError, ValueError, KeyError):
        return None
