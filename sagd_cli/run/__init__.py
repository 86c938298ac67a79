"""A run on disk: its folder, manifest, checkpoints and log."""
