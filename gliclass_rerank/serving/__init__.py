"""Rerank over HTTP, in the words that clients of other rerankers speak already."""
