"""What there is of CUDA here: versions, why a GPU cannot be used, and whether one computes what it should."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

AMPERE = (8, 0)  # the compute capability of the first GPUs that compute with bfloat16; older ones imitate it
_DRIVER = Path("/proc/driver/nvidia/version")
_SIGNS = (_DRIVER, Path("/dev/nvidia0"), Path("/dev/nvidiactl"))
_TOLERANCE = 1e-2  # of one product and one convolution, which may be in TF32


def unusable_gpu() -> str | None:
    """Say why torch cannot use the NVIDIA GPU of this machine; None when it can, has none, or is told to use none."""
    import torch

    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if is_hidden or torch.cuda.is_available() or not any(path.exists() for path in _SIGNS):
        return None
    if torch.version.cuda is None:
        return f"this machine has an NVIDIA GPU, and torch {torch.__version__} is a build without CUDA"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # what a driver says has many types
        return (
            f"this machine has an NVIDIA GPU that torch cannot use: {str(error).splitlines()[0].rstrip('.')}"
        )
    return f"this machine has an NVIDIA GPU that torch {torch.__version__} does not find"


def cuda_facts() -> dict[str, Any]:
    """Return the versions of CUDA, its driver and its libraries, the GPUs that torch has code for, and what is wrong.

    What is not there is None.
    """
    import torch

    is_built, has_nccl = torch.version.cuda is not None, torch.distributed.is_nccl_available()
    nccl: tuple[int, ...] = torch.cuda.nccl.version() if has_nccl else ()  # type: ignore[no-untyped-call]
    cudnn: int | None = torch.backends.cudnn.version() if is_built else None  # type: ignore[no-untyped-call]
    return {
        "runtime": torch.version.cuda,
        "driver": _driver_version(),
        "cudnn": cudnn,
        "nccl": ".".join(map(str, nccl)) or None,
        "architectures": torch.cuda.get_arch_list(),
        "problem": unusable_gpu(),
    }


def gpu_facts(device: "torch.device") -> dict[str, Any]:
    """Return the name, memory and capability of a CUDA device, whether it has bfloat16, and what is wrong with it.

    `problem` is None when a product of matrices and a convolution are as on the CPU.
    """
    import torch

    properties = torch.cuda.get_device_properties(device)
    capability = torch.cuda.get_device_capability(device)
    return {
        "name": properties.name,
        "gib": round(properties.total_memory / 2**30),
        "capability": ".".join(map(str, capability)),
        "bfloat16": capability >= AMPERE,
        "problem": _problem(device),
    }


def _driver_version() -> str | None:
    try:
        found = re.search(r"Module.*?\s(\d+\.[\d.]+)", _DRIVER.read_text())
    except OSError:
        return None
    return found and found[1]


def _problem(device: "torch.device") -> str | None:
    """Compute a product of matrices and a convolution on `device`; say what is wrong with them."""
    import torch
    from torch.nn.functional import conv2d

    matrix = torch.arange(64.0 * 64).sin().view(64, 64)
    image, weight = matrix.view(1, 16, 16, 16), matrix[:36].reshape(16, 16, 3, 3)
    attempts: dict[str, tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
        "matmul": (torch.mm, (matrix, matrix)),
        "conv2d": (conv2d, (image, weight)),
    }
    for name, (function, inputs) in attempts.items():
        try:
            found = function(*(x.to(device) for x in inputs)).cpu()
        except RuntimeError as error:
            return f"{name} fails: {str(error).splitlines()[0]}"
        if not torch.allclose(found, function(*inputs), rtol=_TOLERANCE, atol=_TOLERANCE * 64**0.5):
            return f"{name} is not what the CPU computes"
    return None
