"""Whether one reranker is better than another, on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import mean

from gliclass_rerank.evaluation.evaluator import Evaluation
from gliclass_rerank.evaluation.measures import MAIN_MEASURE
from gliclass_rerank.evaluation.significance import paired_p_value

ALL_QUERIES = "all queries"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better a reranker is than a baseline.

    Attributes:
        collection: Its name, or "all queries" for those of all collections, each counting alike.
        queries: How many queries.
        difference: The mean difference in nDCG@10, in [-1, 1]; positive if the reranker is better.
        p_value: Of the difference, two-sided, by ``paired_p_value``; None for fewer than two queries.
    """

    collection: str
    queries: int
    difference: float
    p_value: float | None


def compare(evaluations: Sequence[Evaluation], baseline: Sequence[Evaluation]) -> list[Comparison]:
    """Compare two rerankers on each collection, and on all queries.

    Args:
        evaluations: A reranker's results.
        baseline: Another reranker's on the same collections and queries, in the same order.

    Returns:
        A comparison for each collection, and one for all queries.

    Raises:
        ValueError: The collections or their queries differ.

    Example:
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> shortest = evaluate(tea, lambda query, passages: [-len(passage) for passage in passages])
        >>> [(row.collection, row.difference) for row in compare([shortest], [shortest])]
        [('tea', 0.0), ('all queries', 0.0)]
    """
    if [result.queries for result in evaluations] != [result.queries for result in baseline]:
        raise ValueError("evaluations and baseline have different queries. Evaluate both on the same collections.")
    values = [result.reranked[MAIN_MEASURE].values for result in evaluations]
    others = [result.reranked[MAIN_MEASURE].values for result in baseline]
    comparisons = [
        _compare(result.collection, row, other) for result, row, other in zip(evaluations, values, others, strict=True)
    ]
    return [*comparisons, _compare(ALL_QUERIES, [*chain(*values)], [*chain(*others)])]


def _compare(name: str, values: Sequence[float], baseline: Sequence[float]) -> Comparison:
    difference = mean(values) - mean(baseline)
    return Comparison(name, len(values), difference, paired_p_value(values, baseline))
