"""Schedules, denoisers, losses and samplers; knows spectral/, not training/."""
