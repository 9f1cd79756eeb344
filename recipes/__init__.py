"""How the project's own models are made, from public data to a calibrated checkpoint."""
