"""Figures: matplotlib and nothing else."""
