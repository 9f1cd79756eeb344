"""Combine several queries' logits of the same passages into one logit and one order."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import add
from typing import Literal

from gliclass_rerank.probabilities import sigmoid

Fusion = Literal["max", "mean", "rrf"]

_RRF_OFFSET = 60  # of Cormack, Clarke and Buettcher, Reciprocal Rank Fusion (2009)


def fuse(
    logits: Sequence[Sequence[float]], fusion: Fusion, retrieval_weight: float = 0.0
) -> tuple[list[float], list[int]]:
    """Fuse logits.

    Args:
        logits: (queries, passages) logits, of at least one query.
        fusion: "max" takes a passage's best logit. "mean" takes the logit of its mean score. "rrf"
            takes the best logit, but orders by the sum of 1 / (60 + rank) over the queries, where equal
            logits have the same rank.
        retrieval_weight: How much the input order counts: a logit is ordered as if it were lower by
            ``retrieval_weight * ln(position)``, with positions from 1. The fused logits stay as they are.

    Returns:
        One logit per passage, in input order; and the passages' positions, best first. Equal
        passages stay in input order.

    Example:
        >>> fuse([[-2.0, 2.0], [1.5, -1.0]], "max")
        ([1.5, 2.0], [1, 0])
        >>> fuse([[1.5, 2.0]], "max", retrieval_weight=1.0)
        ([1.5, 2.0], [0, 1])
    """
    columns = list(zip(*logits, strict=True))
    priors = [-retrieval_weight * math.log(position) for position in range(1, len(columns) + 1)]
    if fusion == "mean":
        means = [_logit_of_mean(column) for column in columns]
        return means, _order(map(add, means, priors))
    best = [max(column) for column in columns]
    if fusion == "max" or len(logits) == 1:
        return best, _order(map(add, best, priors))
    reciprocal_ranks: list[list[float]] = [[] for _ in best]
    for row in logits:
        weighed = [*map(add, row, priors)]
        rising = sorted(weighed)
        for ranks, logit in zip(reciprocal_ranks, weighed, strict=True):
            better = len(rising) - bisect_right(rising, logit)
            ranks.append(1 / (_RRF_OFFSET + better + 1))
    # fsum does not depend on the order of the queries, so equal sums are equal to the last bit.
    return best, _order([math.fsum(ranks) for ranks in reciprocal_ranks])


def _logit_of_mean(logits: Sequence[float]) -> float:
    """The logit whose sigmoid is the mean of the logits' sigmoids, also where they are all nearly 0 or 1."""
    if len(logits) == 1:
        return logits[0]
    relevant = math.fsum(map(sigmoid, logits))
    irrelevant = math.fsum(sigmoid(-logit) for logit in logits)
    if not relevant or not irrelevant:  # beyond what a float tells apart from 0
        return max(logits)
    return math.log(relevant) - math.log(irrelevant)


def _order(values: Iterable[float]) -> list[int]:
    listed = list(values)
    return sorted(range(len(listed)), key=lambda i: -listed[i])
