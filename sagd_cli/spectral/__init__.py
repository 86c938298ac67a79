"""Frequencies, filters and shaped noise: NumPy and torch only, no I/O, no knowledge of training."""
