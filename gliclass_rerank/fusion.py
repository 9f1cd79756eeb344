"""Several queries' scores of the same passages become one score and one order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Fusion = Literal["max", "mean", "rrf"]

_RRF_OFFSET = 60  # of Cormack, Clarke and Buettcher, Reciprocal Rank Fusion (2009)


def fuse(scores: Sequence[Sequence[float]], fusion: Fusion) -> tuple[list[float], list[int]]:
    """Fuse scores.

    Args:
        scores: Of at least one query, one per passage each.
        fusion: "max" or "mean" of a passage's scores; or "rrf", which orders by the sum of 1 / (60 + rank) over
            the queries, and leaves each passage its best score.

    Returns:
        One score per passage, in input order; and the passages' positions, best first, equal ones in input order.

    Example:
        >>> fuse([[0.1, 0.9], [0.8, 0.3]], "max")
        ([0.8, 0.9], [1, 0])
    """
    of_passages = list(zip(*scores, strict=True))
    if fusion == "mean":
        fused = [math.fsum(of_one) / len(of_one) for of_one in of_passages]
        return fused, _order(fused)
    fused = [max(of_one) for of_one in of_passages]
    if fusion == "max" or len(scores) == 1:
        return fused, _order(fused)
    shares: list[list[float]] = [[] for _ in fused]
    for of_query in scores:
        for rank, position in enumerate(_order(of_query), 1):
            shares[position].append(1 / (_RRF_OFFSET + rank))
    # Sums that do not depend on the order of the queries: equal ones have to be equal.
    return fused, _order([math.fsum(of_one) for of_one in shares])


def _order(values: Sequence[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda i: -values[i])
