"""Strategies: `TrainStrategy` holds the loop; a parallelism is a subclass that fills hooks."""
