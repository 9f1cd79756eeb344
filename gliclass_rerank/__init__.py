"""Rerank passages with GLiClass: the query is the label, the passages are the texts."""

from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.context import fill_context
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage

__all__ = ["GLiClassReranker", "RankedPassage", "ZeroShotClassifier", "__version__", "fill_context"]
__version__ = "0.1.0"
