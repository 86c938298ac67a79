"""Tests of the denoiser of every spectrum run on one thread."""

from support.threads import one_thread  # noqa: F401
