"""Work that is spread over threads, for arithmetic in C, which holds no lock of the interpreter, or over processes."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import connection
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from sagd_cli.errors import SagdError
from sagd_cli.system.devices import keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

_work: Callable[[Any], Any]  # of a process that `in_order` has started


def thread_count() -> int:
    """Return how many threads to use: OMP_NUM_THREADS as in other numeric programs, else the cores of this process."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else len(os.sched_getaffinity(0))


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    load: Callable[[Item], float],
    workers: int | None = None,
    begin: Callable[[], object] | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yield each of `items` with work(item), in their order, while `workers` threads work on the next ones.

    With `begin` they are processes, each of which calls it first; `work`, items and results must be what pickle takes.
    They end with this one, which alone hears Ctrl-C. An item is taken when there is room for it: one more than there
    are workers are worked on or wait, and no more than fit when each takes the share `load(item)` of the memory. One of
    more than half is worked on alone, and in this thread, which a signal stops at once. What `work` raises is raised at
    its place. When this ends early, nothing more is begun. Meanwhile linear algebra keeps to the thread that asks for
    it: as many more for each took three times as long. Raises SagdError when a process was killed.
    """
    workers = workers or thread_count()
    run = work if begin is None else _run
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(workers) if begin is None else _processes(workers, work, begin) as pool,
    ):
        waiting: deque[tuple[Item, float, Future[Result]]] = deque()
        try:
            for item in items:
                share = load(item)
                is_large = share > 1 / 2
                while waiting and (
                    is_large or len(waiting) > workers or share + sum(other for _, other, _ in waiting) > 1
                ):
                    yield _done(waiting)
                if is_large:
                    yield item, work(item)
                else:
                    waiting.append((item, share, pool.submit(run, item)))
            while waiting:
                yield _done(waiting)
        except BrokenExecutor:
            raise SagdError(
                "a process that computes was killed, perhaps for want of memory",
                "The same command goes on; with OMP_NUM_THREADS=1 it computes in one process.",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _done(waiting: deque[tuple[Item, float, Future[Result]]]) -> tuple[Item, Result]:
    item, _, future = waiting.popleft()
    return item, future.result()


class _Processes(ProcessPoolExecutor):
    """Processes that hear no Ctrl-C: a terminal sends it to all. A signal that is blocked when one starts stays so."""

    def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
        """Submit a call, which may start a process."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            return super().submit(*arguments, **named)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _processes(count: int, work: Callable[[Any], Any], begin: Callable[[], object]) -> Executor:
    """Return at most `count` processes that have begun; they are new, as those that threads fork may hang."""
    return _Processes(count, multiprocessing.get_context("spawn"), _begin, (work, begin))


def _begin(work: Callable[[Any], Any], begin: Callable[[], object]) -> None:
    """Begin a process."""
    global _work  # noqa: PLW0603
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(1, user_api="blas")
    keep_freed_memory()
    begin()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _run(item: Any) -> Any:
    return _work(item)
