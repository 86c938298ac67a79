"""What a run takes, before it starts: parameters, memory, arithmetic, steps and disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from sagd_cli.config.run import RunConfig, TrainingConfig
from sagd_cli.datasets.loading import DataSize
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.model.network import build_backbone, laid_out, seen_shape
from sagd_cli.system.console import binary_size
from sagd_cli.system.devices import autocast_dtype, available_disk, available_memory, training_arithmetic

# Measured peak memory of two steps, over what autograd keeps: 1.4 to 1.7 on the CPU. Its heap becomes fragmented
# (docs/training.md).
CPU_OVERHEAD = 1.5
# What torch.compile keeps of it: 0.69 to 0.72 by its partition of the networks of digits and cifar10, fp32 and bf16.
COMPILED_SHARE = 0.75
# The backward pass takes twice the multiplications of the forward pass.
TRAINING_FLOPS = 3


def _attention_flops(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    """Return the FLOPs of attention, from the shapes of its inputs."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


# Operations that torch's FLOP counter does not know.
UNCOUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


@dataclass(frozen=True)
class ForwardCost:
    """The cost of a forward pass.

    `saved`: bytes that a batch keeps for the backward pass. `flops`: FLOPs per image.
    """

    saved: int
    flops: int


@dataclass(frozen=True)
class RunCost:
    """What a run takes, without its data set.

    `parameters`: their number. `weights`: bytes of parameters and buffers. `gradients`: bytes of the gradients.
    `activations`: bytes that autograd keeps in a pass. `flops`: FLOPs of the forward pass per image, where a
    multiply-add counts as two.
    """

    parameters: int
    weights: int
    gradients: int
    activations: int
    flops: int
    data: DataSize
    training: TrainingConfig

    @property
    def averages(self) -> int:
        """Bytes of the averages of the weights, one average for each half-life."""
        return len(self.training.ema_half_life_images) * self.weights

    @property
    def fixed(self) -> int:
        """Bytes of weights, their averages, gradients and AdamW's two moments."""
        return self.weights + self.averages + 3 * self.gradients

    @property
    def memory(self) -> int:
        """Bytes at the peak of a step."""
        return self.fixed + self.activations

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights, their averages and the moments."""
        return self.weights + self.averages + 2 * self.gradients

    @property
    def _milestones(self) -> int:
        """Number of checkpoints that are never pruned."""
        between = self.training.milestone_steps
        return 0 if between is None else self.training.steps // between

    def document(self) -> dict[str, Any]:
        """Return the object `estimate` of `sagd train --dry-run --json`."""
        settings = self.training
        return {
            "parameters": self.parameters,
            "memory_bytes": {
                "weights": self.weights,
                "gradients": self.gradients,
                "moments": 2 * self.gradients,
                "ema": self.averages,
                "activations": self.activations,
                "total": self.memory,
            },
            "flops_per_image": {"forward": self.flops, "training": TRAINING_FLOPS * self.flops},
            "images_per_epoch": self.data.count,
            "epochs": settings.images / self.data.count,
            "steps": settings.steps,
            "disk_bytes": {
                "checkpoint": self.checkpoint,
                "total": self.checkpoint * (settings.keep_checkpoints + 1 + self._milestones),
            },
        }


def _at_once(settings: TrainingConfig) -> int:
    return -(-settings.batch_size // settings.accumulate)


def estimate_cost(
    config: RunConfig, data: DataSize, device: torch.device, at_once: int | None = None
) -> RunCost | None:
    """Estimate the cost of training on `device` with `at_once` images per pass (None: as `config` says).

    Weights, averages, gradients and moments are exact. Activations are what autograd keeps, less where the network is
    compiled; on the CPU they include the overhead of its heap. The device need not be there. Return None for a network
    whose shapes cannot be followed without values. Raises ConfigError when the network does not fit the data.
    """
    settings = config.training
    seen = replace(data, shape=seen_shape(config, data.shape))
    try:
        with torch.device("meta"):
            network = laid_out(build_backbone(config.backbone, seen.shape, seen.classes), device)
        precision = autocast_dtype(settings.precision, device, network)
        with training_arithmetic(device, settings.deterministic):
            cost = forward_cost(network, seen, at_once or _at_once(settings), device, precision)
    except SagdError:
        raise
    except Exception:  # a plug-in's network may do anything
        return None
    parameters = list(network.parameters())
    overhead = CPU_OVERHEAD if device.type == "cpu" else 1.0
    overhead *= COMPILED_SHARE if settings.compile else 1.0
    return RunCost(
        parameters=sum(p.numel() for p in parameters),
        weights=sum(t.nbytes for t in chain(parameters, network.buffers())),
        gradients=sum(p.nbytes for p in parameters if p.requires_grad),
        activations=round(cost.saved * overhead),
        flops=cost.flops,
        data=data,
        training=settings,
    )


def forward_cost(
    network: nn.Module,
    data: DataSize,
    batch_size: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> ForwardCost:
    """Return the cost of a forward pass of `batch_size` images on `device`, without computing it.

    `network` is on the meta device, and shapes alone are followed through it. Raises whatever the network raises when
    its tensors have no values.
    """
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage
        return tensor

    with FakeTensorMode(), torch.device(device):
        own = {
            name: torch.empty_strided(
                t.shape, t.stride(), dtype=t.dtype, device=device, requires_grad=t.requires_grad
            )
            for name, t in chain(network.named_parameters(), network.named_buffers())
        }
        labels = (torch.zeros(batch_size, dtype=torch.int64),) if data.classes else ()
        inputs = (torch.empty(batch_size, *data.shape), torch.zeros(batch_size), *labels)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter,
            _autocast(device, autocast),
        ):
            torch.func.functional_call(network, own, inputs)
        for tensor in own.values():
            saved.pop(tensor.untyped_storage()._cdata, None)
    return ForwardCost(
        sum(storage.nbytes() for storage in saved.values()), counter.get_total_flops() // batch_size
    )


@contextmanager
def _autocast(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Do what torch.autocast does, also for a GPU that is not here, where that does nothing."""
    before = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
    torch.set_autocast_enabled(device.type, dtype is not None)
    torch.set_autocast_dtype(device.type, dtype or before[1])
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device.type, before[0])
        torch.set_autocast_dtype(device.type, before[1])


def refuse_too_large(
    config: RunConfig, data: DataSize, device: torch.device, at_once: int | None = None
) -> None:
    """Raise UsageError when training takes more memory than is free on `device`; the message gives both figures."""
    estimate, available = estimate_cost(config, data, device, at_once), available_memory(device)
    if estimate is None or available is None or estimate.memory <= available:
        return
    at_once = at_once or _at_once(config.training)
    fitting = int((available - estimate.fixed) * at_once / estimate.activations)
    passes = -(-config.training.batch_size // max(fitting, 1))
    remedy = (
        f"Lower --batch-size to {fitting} or less, or divide it with --set training.accumulate={passes}"
        if fitting > 0
        else "Choose a smaller network"
    )
    raise UsageError(
        f"training with {at_once} images at a time takes about {binary_size(estimate.memory)} of memory, "
        f"and {device} has {binary_size(available)} free",
        f"{remedy}; --no-check-memory tries all the same.",
    )


def refuse_full_disk(checkpoint: int, path: Path) -> None:
    """Raise UsageError when a checkpoint with so many bytes of weights does not fit on the disk of `path`.

    Besides weights, a run has its spectra and settings: a tenth more and a mebibyte are asked for.
    """
    available, needed = available_disk(path), checkpoint + checkpoint // 10 + 2**20
    if available is not None and needed > available:
        raise UsageError(
            f"a checkpoint takes {binary_size(needed)}, and the disk of {path} has {binary_size(available)} free",
            "Make room, or choose another --output.",
        )
