"""Metrics of sets of images: one module for each, a row in the catalogue, and the figures of a comparison."""
