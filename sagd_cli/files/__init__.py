"""The formats of image files: their bytes to samples and back, and what they hold besides."""
