"""Sweeps: many runs over a grid of settings and seeds, resumable, shared by processes and machines."""
