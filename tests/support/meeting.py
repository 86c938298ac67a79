"""Several processes that work together, played by threads of this one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Queue
from threading import Barrier, BrokenBarrierError
from typing import Any

from sagd_cli.system.distributed import World

PATIENCE = 60


@dataclass(frozen=True)
class Meeting:
    """What the threads share: a place for what each says, and a queue to the first of each."""

    said: list[Any]
    barrier: Barrier
    queues: list[Queue] = field(repr=False)


@dataclass(frozen=True)
class Together(World):
    """One of the threads."""

    meeting: Meeting | None = None

    def gathered(self, document):
        self.meeting.said[self.rank] = document
        self.meeting.barrier.wait(PATIENCE)
        said = [*self.meeting.said]
        self.meeting.barrier.wait(PATIENCE)
        return said

    def any(self, *flags):
        return tuple(map(any, zip(*self.gathered(flags), strict=True)))

    def _send(self, arrays):
        self.meeting.queues[self.rank].put(arrays)

    def _received(self, rank):
        return self.meeting.queues[rank].get(timeout=PATIENCE)


def together(size, work):
    """Return work(world) of each of `size` processes, or raise the error of the first of them that has one."""
    meeting = Meeting([None] * size, Barrier(size), [Queue() for _ in range(size)])

    def play(rank):
        try:
            return work(Together(rank, size, meeting=meeting))
        except BaseException:
            meeting.barrier.abort()  # nobody waits for this one
            raise

    with ThreadPoolExecutor(size) as pool:
        played = [pool.submit(play, rank) for rank in range(size)]
    errors = [error for one in played if (error := one.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
        raise error
    return [one.result() for one in played]
