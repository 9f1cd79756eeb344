"""Rerank passages with GLiClass: the query is the label, the passages are the texts."""

import logging

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.compression.compress import CompressedPassage, compress_context, highlight
from gliclass_rerank.compression.spans import ScoredSpan
from gliclass_rerank.context import fill_context
from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage

__all__ = [
    "CheckpointError",
    "CompressedPassage",
    "GLiClassReranker",
    "RankedPassage",
    "ScoredSpan",
    "ZeroShotClassifier",
    "__version__",
    "compress_context",
    "fill_context",
    "highlight",
]
__version__ = "0.2.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until an application listens
