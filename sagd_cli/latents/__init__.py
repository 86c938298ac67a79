"""Autoencoders that others trained: images to latents and back."""
