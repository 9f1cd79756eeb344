"""Rerank passages with GLiClass: the query is the label, the passages are the texts."""

import logging

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.context import fill_context
from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage

__all__ = [
    "CheckpointError",
    "GLiClassReranker",
    "RankedPassage",
    "ZeroShotClassifier",
    "__version__",
    "fill_context",
]
__version__ = "0.2.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until an application listens
