"""Measurements of the two services as processes: ``python -m benchmarks``."""
