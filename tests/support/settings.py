"""The settings of a training that takes a second."""

TINY = {
    "backbone.options": {"channels": [8, 8], "layers_per_block": 1, "attention": [False, False]},
    "training.images": 64,
    "training.batch_size": 8,
    "training.checkpoint_images": 16,
    "training.log_steps": 1,
    "training.warmup_images": 8,
}
