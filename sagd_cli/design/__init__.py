"""Designing filters: spectra of data sets, filters fitted to them, signal-to-noise ratios. Imports no torch."""
