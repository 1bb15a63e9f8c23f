"""How well maps of anomaly find defects: metrics, regions, results by class, pictures, and baselines."""
