"""Work on several threads gives what it gives on one, in its order, a few items at a time."""

import os
import signal
import threading

import pytest

from sagd_cli.errors import SagdError
from sagd_cli.system.threads import in_order, thread_count


def light(item):
    return 0.0


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_items(threads):
    """Also where the first takes longest: it waits for the second to be done."""
    second_done = threading.Event()

    def squared(n):
        if n == 0 and threads > 1:
            assert second_done.wait(10)
        if n == 1:
            second_done.set()
        return n * n

    assert list(in_order(squared, range(20), light, threads)) == [(n, n * n) for n in range(20)]


@pytest.mark.parametrize(("share", "most"), [(0.0, 4), (0.3, 4), (0.4, 3), (0.6, 1), (2.0, 1)])
def test_only_so_many_items_are_taken_ahead(share, most):
    """One more than there are threads, or as many as fit, and the one that waits for room."""
    taken = []

    def items():
        for n in range(12):
            taken.append(n)
            yield n

    ahead = [len(taken) - n for n, _ in in_order(int, items(), lambda _: share, 2)]
    assert max(ahead) == most


def test_a_large_item_is_worked_on_by_the_thread_that_asks():
    here = threading.get_ident()
    found = in_order(lambda _: threading.get_ident(), [0.1, 0.9, 0.1, 0.1, 3.0], lambda item: item, 2)
    assert [one == here for _, one in found] == [False, True, False, False, True]


def test_an_error_comes_at_its_place_and_nothing_more_is_begun():
    begun = []

    def work(n):
        begun.append(n)
        if n == 2:
            raise ValueError("two")
        return n

    found = in_order(work, range(100), light, 2)
    assert [next(found)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(found)
    assert max(begun) < 8


def answered(item):
    """Ctrl-C reaches all processes of a terminal, and only the first one acts on it."""
    os.kill(os.getpid(), signal.SIGINT)
    if item < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return item, os.getpid()


def test_processes_give_the_same_and_a_killed_one_is_said():
    found = in_order(answered, [3, 1, 4, 1, 5, -9, 2], light, 2, begin=int)
    done = [next(found) for _ in range(4)]
    assert [item for item, _ in done] == [one for _, (one, _) in done] == [3, 1, 4, 1]
    assert os.getpid() not in {process for _, (_, process) in done}
    with pytest.raises(SagdError, match="a process that computes was killed"):
        next(found)
        next(found)


def test_the_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count() == 3
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert thread_count() >= 1
