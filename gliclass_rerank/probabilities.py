"""Logits become scores in [0, 1], in double precision: fp32 logits that differ keep their order."""

from __future__ import annotations

import math
from collections.abc import Sequence


def sigmoid(logit: float) -> float:
    """The score of a label on its own.

    Args:
        logit: Any finite number.

    Example:
        >>> sigmoid(0.0)
        0.5
    """
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def softmax(logits: Sequence[float]) -> list[float]:
    """Scores of labels that exclude each other; they add up to 1.

    Args:
        logits: The labels' logits, at least one.

    Example:
        >>> softmax([7.0, 7.0])
        [0.5, 0.5]
    """
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]
