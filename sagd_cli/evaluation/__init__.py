"""Distances between sets of images, each with a receipt of what was compared."""
