"""Work that is spread over threads, for arithmetic in C, which holds no lock of the interpreter."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_count() -> int:
    """Return how many threads to use: OMP_NUM_THREADS as in other numeric programs, else the cores of this process."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else len(os.sched_getaffinity(0))


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    load: Callable[[Item], float],
    threads: int | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yield each of `items` with work(item), in their order, while `threads` work on the next ones.

    An item is taken when there is room for it: one more than there are threads are worked on or wait, and no more than
    fit when each takes the share `load(item)` of the memory. One of more than half is worked on alone, and in this
    thread, which a signal stops at once. What `work` raises is raised at its place. When this ends early, nothing more
    is begun. Meanwhile linear algebra keeps to the thread that asks for it: as many more for each took three times as
    long.
    """
    threads = threads or thread_count()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Item, float, Future[Result]]] = deque()
        try:
            for item in items:
                share = load(item)
                is_large = share > 1 / 2
                while waiting and (
                    is_large or len(waiting) > threads or share + sum(other for _, other, _ in waiting) > 1
                ):
                    yield _done(waiting)
                if is_large:
                    yield item, work(item)
                else:
                    waiting.append((item, share, pool.submit(work, item)))
            while waiting:
                yield _done(waiting)
        finally:
            pool.shutdown(cancel_futures=True)


def _done(waiting: deque[tuple[Item, float, Future[Result]]]) -> tuple[Item, Result]:
    item, _, future = waiting.popleft()
    return item, future.result()
