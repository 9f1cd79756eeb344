"""Compress passages to the sentences that answer a query."""
