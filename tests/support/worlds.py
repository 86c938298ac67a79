"""Commands as several processes that know of each other, as `torchrun` starts them, but without its imports."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from sagd_cli.__main__ import main


def run_together(
    count: int, command: Sequence[Any], before: Callable[[int], None] = lambda rank: None
) -> list[int]:
    """Run `command` in `count` forked processes; return their exit codes, or minus the signal that ended one.

    Each calls before(rank) first. When one fails, the others are stopped, as a launcher does.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pids = [_forked(command, before, {**shared, "RANK": rank, "LOCAL_RANK": rank}) for rank in range(count)]
    codes: dict[int, int] = {}
    while len(codes) < count:
        pid, status = os.waitpid(-1, 0)
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid]:
            time.sleep(0.5)  # to tell that they lost it, if they do
            for other in set(pids) - set(codes):
                os.kill(other, signal.SIGTERM)
    return [codes[pid] for pid in pids]


def _forked(command: Sequence[Any], before: Callable[[int], None], environment: dict[str, int | str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ.update({name: str(value) for name, value in environment.items()})
        before(int(environment["RANK"]))
        main([str(word) for word in command])
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
