"""The processes that work together, started by `torchrun`. A single process is a world of size 1."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from sagd_cli import __version__
from sagd_cli.errors import ConfigError, FollowedError, SagdError, UsageError
from sagd_cli.system.environment import told_by_launcher, variable, world_size

# NCCL does not see that a peer died. No process works long on its own before a collective of the devices.
DEVICE_PATIENCE = timedelta(minutes=30)
# Gloo sees it at once, by the connection, so a process may wait for whatever another one does. Torch counts the
# milliseconds in 32 bits: 24 days are the most.
CONTROL_PATIENCE = timedelta(days=20)
_Item = TypeVar("_Item")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class World:
    """This process, number `rank` of `size`. Only the first one, of rank 0, prints and writes files.

    `control` is the group for messages between the processes that do not involve their devices.
    """

    rank: int = 0
    size: int = 1
    control: distributed.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Return every `size`-th of `items`: the share of this process, which may be none. No two shares overlap."""
        return items[self.rank :: self.size]

    def parts(self, batch_size: int, accumulate: int) -> list[range]:
        """Return the places of a batch that this process takes, one range for each pass.

        Raises ConfigError unless the batch divides evenly, as gradients are averaged over passes and processes.
        """
        passes = self.size * accumulate
        if batch_size % passes:
            raise ConfigError(
                f"a batch of {batch_size} does not divide into {self.size} process(es) x {accumulate} passes",
                f"Choose a --batch-size that is a multiple of {passes}.",
            )
        size = batch_size // passes
        first = self.rank * accumulate
        return [range(k * size, (k + 1) * size) for k in range(first, first + accumulate)]

    def wrapped(self, module: nn.Module, device: torch.device, has_idle: bool = False) -> nn.Module:
        """Return `module`, with gradients averaged over the processes where there are several.

        `has_idle`: some of its parameters get no gradient, so each step looks which.
        """
        if self.size == 1:
            return module
        self.wait()  # without a limit of time, before the devices meet
        ids = [device] if device.type == "cuda" else None
        return DistributedDataParallel(
            module, device_ids=ids, gradient_as_bucket_view=True, find_unused_parameters=has_idle
        )

    def average(self, *tensors: Tensor | None) -> None:
        """Replace each tensor by its mean over the processes."""
        for tensor in tensors:
            if self.size > 1 and tensor is not None:
                distributed.all_reduce(tensor)
                tensor.div_(self.size)

    def agree(self, step: int) -> None:
        """Raise SagdError unless all processes are at `step`, as they are when they have read the same checkpoint."""
        if self.size == 1:
            return
        steps = torch.tensor([step, -step])
        distributed.all_reduce(steps, distributed.ReduceOp.MAX, group=self.control)
        if int(steps[0]) != -int(steps[1]):
            raise SagdError(
                f"process {self.rank} resumes at step {step}, others between {-int(steps[1])} and {int(steps[0])}",
                "All of them must see the same run folder.",
            )

    def check_alike(self, facts: Mapping[str, Any]) -> None:
        """Raise SagdError unless all processes have the same `facts`: what JSON can hold, by what people call it."""
        everybody = self.gathered(dict(facts))
        for number, others in enumerate(everybody):
            for name, fact in everybody[0].items():
                if others.get(name) != fact:
                    values = f": {others.get(name)}, not {fact}"
                    raise SagdError(
                        f"process {number} has other {name} than process 0{values if len(values) < 100 else ''}",
                        "All of them must run the same version of sagd and see the same files.",
                    )

    def after_first(self, work: Callable[[], _Item]) -> _Item:
        """Return what `work` does here. The first process does it first, so that the others find what it keeps."""
        if not self.is_first:
            self.wait()
        done = work()
        if self.is_first:
            self.wait()
        return done

    def collected(self, own: Iterator[Arrays], count: int) -> Iterator[Arrays]:
        """Yield the results of `count` pieces of work, in their order, in the first process; none in the others.

        `own` gives those of the pieces that are this process's `share`. Its code runs in each process as results are
        taken.
        """
        for doer in (piece % self.size for piece in range(count)):
            found = next(own) if doer == self.rank else None
            if self.is_first:
                yield self._received(doer) if found is None else found
            elif found is not None:
                self._send(found)

    def _send(self, arrays: Arrays) -> None:
        """Send arrays to the first process, as an .npz archive, which holds no code."""
        file = BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        archive = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
        distributed.send(torch.tensor([len(archive)]), 0, self.control)
        distributed.send(archive, 0, self.control)

    def _received(self, rank: int) -> Arrays:
        length = torch.zeros(1, dtype=torch.int64)
        distributed.recv(length, rank, self.control)
        archive = torch.empty(int(length), dtype=torch.uint8)
        distributed.recv(archive, rank, self.control)
        with np.load(BytesIO(archive.numpy().data), allow_pickle=False) as arrays:
            return dict(arrays)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is set in any process. This waits for all processes, but not for their devices."""
        if self.size == 1:
            return flags
        numbers = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self.control)
        return tuple(map(bool, numbers))

    def gathered(self, document: Any) -> list[Any]:
        """Return the `document` of every process, in order of rank, in every process. Each is what JSON can hold."""
        if self.size == 1:
            return [document]
        text = torch.frombuffer(bytearray(json.dumps(document).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(lengths, torch.tensor([len(text)]), group=self.control)
        longest = max(map(int, lengths))
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        own = torch.zeros(longest, dtype=torch.uint8)
        own[: len(text)] = text
        distributed.all_gather(texts, own, group=self.control)
        return [
            json.loads(bytes(one[: int(length)].numpy())) for one, length in zip(texts, lengths, strict=True)
        ]

    def from_first(self, make: Callable[[], Any]) -> Any:
        """Return what `make` returns in the first process, which can be JSON, in every process; only that one calls it.

        Raises there what it raises, and in the others FollowedError.
        """
        made, fault = None, None
        if self.is_first:
            try:
                made = make()
            except SagdError as error:
                fault = error
        code = None if fault is None else fault.exit_code
        made, code = self.gathered([made, code])[0]
        if fault is not None:
            raise fault
        if code is not None:
            raise FollowedError(code)
        return made

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.any(False)


def unsynchronised(module: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which gradients are summed in this process only, for all passes of a step but the last."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def own_device(device: torch.device) -> torch.device:
    """Return `device`; for "cuda" without a number under `torchrun`, the CUDA device of this process.

    Where a launcher shows each process one device alone, it is that one. Raises UsageError when several processes of a
    machine would share a device, and when there is none for this process.
    """
    if device.type != "cuda" or world_size() == 1:
        return device
    here, count = int(variable("LOCAL_WORLD_SIZE") or 1), torch.cuda.device_count()
    is_numbered = ":" in str(device)
    if is_numbered and here > 1 and count > 1:
        raise UsageError(
            f"{here} processes of this machine cannot share {device}",
            "Give --device cuda: each process then takes a device of its own.",
        )
    if is_numbered:
        return device
    if count == 1 and os.environ.get("CUDA_VISIBLE_DEVICES"):
        return torch.device("cuda", 0)
    own = int(told_by_launcher("LOCAL_RANK"))
    if own >= count:
        raise UsageError(
            f"process {own} of this machine has no device of its own: there are {count}",
            f"Start at most {count} with --nproc-per-node, or use --device cpu.",
        )
    return torch.device("cuda", own)


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """Join the processes that `torchrun` has started, over NCCL on CUDA and Gloo elsewhere; leave them at the end.

    Raises UsageError where nothing says how they meet, SagdError when they run different versions. When the block fails
    in several, the first one to fail raises its error, and the others, which it takes along, FollowedError.
    """
    if world_size() == 1:
        yield World()
        return
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        told_by_launcher(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend, patience = ("nccl", DEVICE_PATIENCE) if device.type == "cuda" else ("gloo", CONTROL_PATIENCE)
    store, own, size = next(rendezvous("env://"))
    distributed.init_process_group(backend, store=store, rank=own, world_size=size, timeout=patience)
    try:
        control = distributed.new_group(backend="gloo", timeout=CONTROL_PATIENCE)
        world = World(own, size, cast(distributed.ProcessGroup, control))
        world.check_alike({"versions": {"sagd": __version__, "torch": torch.__version__}})
        yield world
    except FollowedError:
        raise
    except Exception as error:
        if _is_first_failure(store):
            raise
        raise FollowedError(error.exit_code if isinstance(error, SagdError) else 1) from error
    finally:
        distributed.destroy_process_group()


def _is_first_failure(store: Any) -> bool:
    """Whether no other process has failed before; they share the `store`."""
    try:
        return bool(store.add("failures", 1) == 1)
    except RuntimeError:  # the process that held the store is gone
        return True
