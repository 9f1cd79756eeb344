"""Combine several queries' logits of the same passages into one logit and one order."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

from gliclass_rerank.probabilities import sigmoid

Fusion = Literal["max", "mean", "rrf"]

_RRF_OFFSET = 60  # of Cormack, Clarke and Buettcher, Reciprocal Rank Fusion (2009)


def fuse(logits: Sequence[Sequence[float]], fusion: Fusion) -> tuple[list[float], list[int]]:
    """Fuse logits.

    Args:
        logits: (queries, passages) logits, of at least one query.
        fusion: "max" takes a passage's best logit. "mean" takes the logit of its mean score. "rrf"
            takes the best logit, but orders by the sum of 1 / (60 + rank) over the queries, where equal
            logits have the same rank.

    Returns:
        One logit per passage, in input order; and the passages' positions, best first. Equal
        passages stay in input order.

    Example:
        >>> fuse([[-2.0, 2.0], [1.5, -1.0]], "max")
        ([1.5, 2.0], [1, 0])
    """
    columns = list(zip(*logits, strict=True))
    if fusion == "mean":
        means = [_logit_of_mean(column) for column in columns]
        return means, _order(means)
    best = [max(column) for column in columns]
    if fusion == "max" or len(logits) == 1:
        return best, _order(best)
    reciprocal_ranks: list[list[float]] = [[] for _ in best]
    for row in logits:
        rising = sorted(row)
        for ranks, logit in zip(reciprocal_ranks, row, strict=True):
            better = len(row) - bisect_right(rising, logit)
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


def _order(values: Sequence[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda i: -values[i])
