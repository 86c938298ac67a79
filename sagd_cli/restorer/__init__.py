"""Models that restore images in memory, their estimates of the clean image, and the model in the package."""
