"""Benchmarks: run as ``python -m benchmarks.<name>``; results are kept in results/."""
