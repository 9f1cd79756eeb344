"""``RowScorer`` under the path where it was first published. It now lives in ``gliclass_rerank.bulk.rows``."""

from gliclass_rerank.bulk.rows import RowScorer

__all__ = ["RowScorer"]
