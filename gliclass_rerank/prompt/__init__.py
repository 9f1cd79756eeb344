"""Text to token ids: the prompt, windows over long passages, and trees of labels."""
