"""The name under which ``RowScorer`` was first published; it lives in ``gliclass_rerank.bulk.rows``."""

from gliclass_rerank.bulk.rows import RowScorer

__all__ = ["RowScorer"]
