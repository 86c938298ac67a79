"""Drawing images from a model, and where they are written."""
