"""A watcher beside a policy: frame in, score and verdict out; its data, its threshold, and what an evaluation says."""
