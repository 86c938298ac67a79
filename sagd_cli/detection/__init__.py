"""Finding noise in images that nobody describes: its spectrum and its strength. Nothing is trained."""
