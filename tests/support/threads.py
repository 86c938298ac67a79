"""One thread for tests of small fields."""

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Fields this small gain nothing from threads, and on a busy machine wait for them half the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
