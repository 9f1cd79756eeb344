"""Rerank over HTTP, in the dialects that clients of other rerankers speak."""
