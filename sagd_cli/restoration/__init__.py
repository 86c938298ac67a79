"""Removing noise in a band of images: options, preparation, model, estimates (docs/theory.md, section 6)."""
