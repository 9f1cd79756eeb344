"""Examples that run offline: ``python -m examples.NAME``."""
