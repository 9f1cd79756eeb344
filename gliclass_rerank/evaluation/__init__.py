"""Measure how well something reranks: collections in BEIR layout, metrics, tables and plots.

Nothing heavy is imported before it is used, and torch never is for ``evaluate``: any function that
scores can be measured.
"""

from gliclass_rerank.evaluation.collection import Collection, read_collection
from gliclass_rerank.evaluation.evaluator import Evaluation, evaluate
from gliclass_rerank.evaluation.measures import MEASURES
from gliclass_rerank.evaluation.significance import Estimate

__all__ = ["MEASURES", "Collection", "Estimate", "Evaluation", "evaluate", "read_collection"]
