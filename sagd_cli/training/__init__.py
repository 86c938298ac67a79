"""Training: data order, the loop, moving averages, checkpoints, run folders and sampling from them."""
