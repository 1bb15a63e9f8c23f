"""Training: the one loop, its strategies, optimisation, checkpoints and trackers."""
