"""A disk without room."""

import resource
from contextlib import contextmanager


@contextmanager
def little_room(size):
    """Let this process write files of `size` bytes at most: beyond, write() is an error, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
