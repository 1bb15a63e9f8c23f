"""Metrics as pure functions on tensors, and the LIBERO simulator behind an optional extra."""
