"""Make a reranker: train a checkpoint or a bare encoder on questions and their passages, and calibrate it."""
