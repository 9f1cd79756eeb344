"""Which sequences run together: pure functions over lengths."""

from __future__ import annotations

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group sequences of similar length, so that little padding is computed.

    Args:
        lengths: Tokens of each sequence.
        token_budget: Tokens of a batch at most, padding included. A sequence longer than that
            runs alone.

    Returns:
        Batches of positions in ``lengths``, the longest sequences first; each position once.

    Raises:
        ValueError: ``token_budget`` is not positive.

    Example:
        >>> plan_batches([3, 9, 4, 8], token_budget=20)
        [[1, 3], [2, 0]]
    """
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}, expected at least 1.")
    batches: list[list[int]] = []
    width = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * width > token_budget:
            batches.append([])
            width = lengths[position]
        batches[-1].append(position)
    return batches
