"""Drawing images from a model and writing them."""
