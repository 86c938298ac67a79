"""Tests of the diffusion core run on one thread."""

from support.threads import one_thread  # noqa: F401
