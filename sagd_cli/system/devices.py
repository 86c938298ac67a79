"""The choice of a device, how networks are computed on it, its free memory, and the free space of a disk."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sagd_cli.errors import UsageError
from sagd_cli.system.gpus import AMPERE, unusable_gpu

if TYPE_CHECKING:
    import torch


# Parameters of mallopt in malloc.h with our values in bytes: the size of free memory at the top of the heap above which
# it goes back to the system, and the size from which on an array bypasses the heap.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 2**28), (-3, 2**25)
# Channels from which on bfloat16 is known to be faster on CPUs that have it: the network of CIFAR-10 has 128 and 256
# (docs/performance.md).
WIDE = 128
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def keep_freed_memory() -> None:
    """Let glibc keep the freed arrays of one step for the next one. With another C library this does nothing.

    By default glibc returns them to the system in some processes and not in others, and then every page of them has to
    be mapped again: drawing the noise of a batch took 18 ms or 34 ms, by chance.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(*_TRIM_THRESHOLD)
        mallopt(*_MMAP_THRESHOLD)


def check_device(name: str) -> None:
    """Raise UsageError unless `name` is auto, cpu, cuda or cuda:N, there or not. Imports no torch."""
    kind, _, index = name.partition(":")
    if kind == "cuda" and (index.isdecimal() or name == kind):
        return
    if name not in ("auto", "cpu"):
        raise UsageError(f"unknown device {name!r}", "Devices are auto, cpu, cuda and cuda:N.")


def choose_device(name: str, must_exist: bool = True) -> "torch.device":
    """Return the device for auto | cpu | cuda | cuda:N.

    Raises UsageError for another name, and for a device that is not there if it `must_exist`.
    """
    check_device(name)
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if must_exist and kind == "cuda" and not torch.cuda.is_available():
        why = unusable_gpu() or "this machine or this build of torch has no CUDA"
        raise UsageError(why, "Use --device auto or cpu.")
    if must_exist and index and int(index) >= torch.cuda.device_count():
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


def autocast_dtype(
    precision: str, device: "torch.device", network: "torch.nn.Module"
) -> "torch.dtype | None":
    """Return bfloat16 for bf16, or for auto where `network` is computed faster with it; None means float32 throughout.

    That is on GPUs that compute with it, and for wide convolutions on CPUs that do.
    """
    import torch

    gains = _gpu_has_bfloat16(device) if device.type == "cuda" else _cpu_has_bfloat16() and _is_wide(network)
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and gains) else None


def trained_precision(recorded: str | None, setting: str, device: "torch.device") -> str | None:
    """Return what a network was trained in: what its checkpoint has `recorded`, or fp32, which auto was on CPUs before.

    None: an early checkpoint does not tell it.
    """
    return recorded or ("fp32" if setting == "auto" and device.type == "cpu" else None)


def _gpu_has_bfloat16(device: "torch.device") -> bool:
    """Whether a GPU computes with bfloat16. Those before Ampere only imitate it; one that is not here counts as new."""
    import torch

    return not torch.cuda.is_available() or torch.cuda.get_device_capability(device) >= AMPERE


def _cpu_has_bfloat16() -> bool:
    """Whether this CPU computes with bfloat16: AVX-512 BF16 or AMX. Others imitate it, and are many times slower."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _is_wide(network: "torch.nn.Module") -> bool:
    """Whether at least half of the kernels of its convolutions join `WIDE` channels with as many or more."""
    kernels = [weight for weight in network.parameters() if weight.ndim == 4]
    return 2 * sum(min(kernel.shape[:2]) >= WIDE for kernel in kernels) >= max(len(kernels), 1)


@contextmanager
def training_arithmetic(device: "torch.device", deterministic: bool) -> Iterator[None]:
    """Set how CUDA computes a training, until the block ends. A CPU needs no setting: it repeats its bits.

    Products and convolutions of float32 tensors are in TF32. cuDNN searches the fastest convolutions, unless
    `deterministic`: then cuDNN, torch and cuBLAS take deterministic algorithms alone, and attention single steps. An
    operation that has no such algorithm raises RuntimeError.
    """
    if device.type != "cuda":
        yield
        return
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with ExitStack() as stack:
        _choose_products(stack, "high")
        flags = torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled,
            benchmark=not deterministic,
            deterministic=deterministic,
            allow_tf32=True,
        )
        stack.enter_context(flags)
        if deterministic:
            stack.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
            torch.use_deterministic_algorithms(True)
            if _CUBLAS not in os.environ:
                stack.callback(os.environ.pop, _CUBLAS)
                os.environ[_CUBLAS] = ":4096:8"
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


@contextmanager
def exact_arithmetic(device: "torch.device") -> Iterator[None]:
    """Let CUDA compute float32 tensors in float32 and not in TF32, until the block ends."""
    if device.type != "cuda":
        yield
        return
    import torch

    with ExitStack() as stack:
        _choose_products(stack, "highest")
        cudnn = torch.backends.cudnn
        stack.enter_context(
            cudnn.flags(enabled=cudnn.enabled, deterministic=cudnn.deterministic, allow_tf32=False)
        )
        yield


def _choose_products(stack: ExitStack, precision: str) -> None:
    """Choose torch's precision of matrix products until `stack` ends."""
    import torch

    stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    torch.set_float32_matmul_precision(precision)


def available_memory(device: "torch.device") -> int | None:
    """Return the bytes that are free on `device`, or None if unknown; on the CPU its control group counts too."""
    if device.type == "cuda":
        import torch

        try:
            free = int(torch.cuda.mem_get_info(device)[0])
        except (RuntimeError, AssertionError):  # there is no GPU, or torch was built without CUDA
            return None
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    groups = Path("/sys/fs/cgroup")
    known = [
        _free_of_machine(Path("/proc/meminfo")),
        _free_of_group(groups, "memory.max", "memory.current"),
        _free_of_group(groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ]
    return min((free for free in known if free is not None), default=None)


def available_disk(path: Path) -> int | None:
    """Return the bytes that are free where `path` is or would be made, or None if unknown."""
    place = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def _free_of_machine(meminfo: Path) -> int | None:
    try:
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None


def _free_of_group(folder: Path, limit: str, usage: str) -> int | None:
    """Return the bytes that a control group may still take. Cached files count as used there, but can be dropped."""
    try:
        room = int((folder / limit).read_text()) - int((folder / usage).read_text())
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return room + int(fields["inactive_file"]) + int(fields["active_file"])
    except (OSError, ValueError, KeyError):
        return None
