"""Datasets: reading only. What is done to a sample stands in the Processor, how samples are ordered in the samplers."""
