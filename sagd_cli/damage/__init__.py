"""Noise in a band of images: adding it, finding the band, measuring its strength. Trains nothing."""
