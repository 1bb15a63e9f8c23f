"""Policies at work: a checkpoint as something that acts, and its evaluation in the simulator."""
