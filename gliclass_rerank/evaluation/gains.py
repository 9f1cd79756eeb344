"""How much a reranker gains over the first stage, over several collections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from gliclass_rerank.evaluation.evaluator import Evaluation
from gliclass_rerank.evaluation.measures import MAIN_MEASURE


@dataclass(frozen=True, slots=True)
class Gains:
    """Gains in nDCG@10 over the first stage.

    Attributes:
        by_collection: One gain for each collection, in [-1, 1].
        mean: Over collections, each counting alike, however many queries it has.
        worst: The smallest gain.
        worst_collection: The collection that has it.
    """

    by_collection: tuple[float, ...]
    mean: float
    worst: float
    worst_collection: str


def gain(evaluation: Evaluation) -> float:
    """The gain in nDCG@10 over the first stage.

    Args:
        evaluation: The result of ``evaluate``.

    Example:
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> round(gain(evaluate(tea, lambda query, passages: [-len(passage) for passage in passages])), 3)
        0.369
    """
    return evaluation.reranked[MAIN_MEASURE].mean - evaluation.first_stage[MAIN_MEASURE].mean


def measure_gains(evaluations: Sequence[Evaluation]) -> Gains:
    """One reranker's gains over several collections.

    Args:
        evaluations: The reranker's results, at least one.

    Example:
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> measure_gains([evaluate(tea, lambda query, passages: [0.0, 0.0])]).worst_collection
        'tea'
    """
    gains = tuple(map(gain, evaluations))
    worst = min(gains)
    return Gains(gains, mean(gains), worst, evaluations[gains.index(worst)].collection)
