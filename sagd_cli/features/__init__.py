"""Features of images: the network that computes them, their moments, and what is kept of a set of images."""
