"""Noise in a band of images: adding it, finding the band, measuring how strong the noise is. Nothing is trained."""
