"""Training: the order of the data, the loss, the loop, its cost, and contact sheets."""
