"""The command `vla`: every program of the toolkit under one name. `scripts/*.py` call the same functions."""
