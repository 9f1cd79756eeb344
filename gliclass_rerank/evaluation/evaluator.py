"""Rerank a collection with anything that scores, and measure it beside the first stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gliclass_rerank.evaluation.collection import Collection
from gliclass_rerank.evaluation.measures import measure
from gliclass_rerank.evaluation.significance import Estimate
from gliclass_rerank.optional import require

Score = Callable[[str, list[str]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a collection's candidates are in the first stage's order, and reranked.

    Attributes:
        collection: Its name.
        candidates: What they come from.
        queries: Ids of the queries, in the order of each estimate's values.
        first_stage: An estimate for each of ``MEASURES``.
        reranked: The same after reranking, with p-values against the first stage.
        scores: By query id, the score of each candidate, in the first stage's order.
    """

    collection: str
    candidates: str
    queries: tuple[str, ...]
    first_stage: dict[str, Estimate]
    reranked: dict[str, Estimate]
    scores: dict[str, tuple[float, ...]]


def evaluate(collection: Collection, score: Score) -> Evaluation:
    """Rerank each query's candidates and measure both orders.

    Args:
        collection: See ``read_collection``.
        score: Called with a query and its candidates, gives a number for each; higher is better, and
            equal ones keep the first stage's order. For instance the ``score`` of a reranker.

    Raises:
        ImportError: The extra "eval" is not installed.
        ValueError: The collection has no queries, or ``score`` gives another number of scores than
            of passages, or one that is not finite.

    Example:
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> evaluation = evaluate(tea, lambda query, passages: [float("Tea" in passage) for passage in passages])
        >>> evaluation.first_stage["MRR@10"].mean, evaluation.reranked["MRR@10"].mean
        (0.5, 1.0)
    """
    for module in ("ir_measures", "scipy"):  # before any time is spent on scoring
        require(module, extra="eval")
    if not collection.queries:
        raise ValueError(f"collection is {collection.name!r}, which has no queries.")
    scores = {query: _score(collection, query, score) for query in collection.queries}
    reranked = {query: order_by_scores(collection.candidates[query], row) for query, row in scores.items()}
    qrels = {query: collection.qrels[query] for query in collection.queries}
    before, after = measure(qrels, collection.candidates), measure(qrels, reranked)
    return Evaluation(
        collection.name,
        collection.first_stage,
        tuple(qrels),
        {name: Estimate.of(values) for name, values in before.items()},
        {name: Estimate.of(values, before[name]) for name, values in after.items()},
        scores,
    )


def order_by_scores(ids: Sequence[str], scores: Sequence[float]) -> list[str]:
    """Order passages by their scores; equal ones keep their order.

    Args:
        ids: Ids of passages.
        scores: A score for each; higher is better.

    Example:
        >>> order_by_scores(["a", "b", "c"], [0.5, 0.9, 0.5])
        ['b', 'a', 'c']
    """
    return [ids[i] for i in sorted(range(len(ids)), key=lambda i: -scores[i])]


def _score(collection: Collection, query: str, score: Score) -> tuple[float, ...]:
    ids = collection.candidates[query]
    if not ids:
        return ()
    scores = tuple(map(float, score(collection.queries[query], [collection.passages[i] for i in ids])))
    if len(scores) != len(ids):
        raise ValueError(f"score gave {len(scores)} scores for the {len(ids)} candidates of query {query!r}.")
    for passage, value in zip(ids, scores, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"score gave {value} for query {query!r} and passage {passage!r}, expected a number.")
    return scores
