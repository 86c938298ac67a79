"""A sweep in several processes of this machine."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

import torch

from sagd_cli.errors import SagdError, UsageError
from sagd_cli.plugin.registry import Sources, current_sources, use_sources
from sagd_cli.sweep.plan import Plan
from sagd_cli.sweep.work import stopped, work
from sagd_cli.system.console import Output
from sagd_cli.system.devices import keep_freed_memory
from sagd_cli.system.environment import world_size
from sagd_cli.system.signals import StopRequest, stop_on_signal
from sagd_cli.system.streams import mend_streams

PARENT_DIES = 1  # prctl's PR_SET_PDEATHSIG
LOOK = 1.0  # seconds between looks at what is done


def run_plan(
    plan: Plan, jobs: int, device: torch.device, output: Output, recorded: Callable[[], object]
) -> None:
    """Do what is left of a plan in `jobs` processes; 1 means this process alone.

    `recorded` is called when more runs may be done. Raises Interrupted when a signal asked to stop, SagdError when a
    process died, UsageError under torchrun.
    """
    if world_size() > 1:
        raise UsageError(
            "the processes of torchrun train one run together, and those of a sweep each their own",
            "Use `sagd sweep --jobs J`, once on every machine.",
        )
    if jobs == 1:
        work(plan, device, output, recorded)
        return
    context = multiprocessing.get_context("spawn")
    settings = (plan, current_sources(), max(1, torch.get_num_threads() // jobs), os.getpid())
    workers = [
        context.Process(target=_worker, args=(*settings, str(_device(device, k)))) for k in range(jobs)
    ]
    with stop_on_signal() as stop:
        _start(workers)
        _watch(workers, stop, recorded)
        if stop.signum is not None:
            raise stopped(stop.signum, plan)
    _check(workers)


def _start(workers: Sequence[BaseProcess]) -> None:
    """Start the workers; they ignore Ctrl-C until they can save, and the end of their terminal always.

    A terminal sends both to all processes, and this one passes them on.
    """
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        for worker in workers:
            worker.start()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _watch(workers: Sequence[BaseProcess], stop: StopRequest, recorded: Callable[[], object]) -> None:
    """Wait until all workers have ended; ask them to stop when a signal asks for it."""
    asked = False
    while any(worker.is_alive() for worker in workers):
        if stop.requested() and not asked:
            asked = True
            for worker in workers:
                worker.terminate()
        for worker in workers:
            worker.join(LOOK / len(workers))
        recorded()


def _check(workers: Sequence[BaseProcess]) -> None:
    dead = [worker.exitcode for worker in workers if worker.exitcode]
    if dead:
        raise SagdError(
            f"{len(dead)} of {len(workers)} processes died (exit code {dead[0]})",
            "Run the same command again to go on, perhaps with fewer --jobs.",
        )


def _device(device: torch.device, index: int) -> torch.device:
    """Return the device of the process `index`: the CUDA devices in turn, unless one was named."""
    if device != torch.device("cuda"):
        return device
    return torch.device("cuda", index % torch.cuda.device_count())


def _worker(plan: Plan, sources: Sources, threads: int, parent: int, device: str) -> None:
    """Do the work of one process of a sweep; save and stop when the process that started it dies."""
    mend_streams()
    output = Output(quiet=True)  # the lines of several trainings would mix
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PARENT_DIES, signal.SIGTERM)
    if os.getppid() != parent:  # it died before that
        sys.exit(1)
    use_sources(sources)
    torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()
    try:
        work(plan, torch.device(device), output, lambda: None)
    except SagdError as error:
        output.error(error)
        sys.exit(error.exit_code)
