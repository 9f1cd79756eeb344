"""Labels and passages in, logits out: checkpoints are loaded, batches planned and scored here."""
