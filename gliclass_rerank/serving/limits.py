"""What the server accepts: sizes, and times to wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a request and of the queue. A request beyond one gets status 413, 408, 429 or 503.

    Attributes:
        body_bytes: Bytes of a request's body.
        passages: Passages of a request; also texts to classify, and labels.
        label_pairs: Texts times labels of a request to classify.
        label_characters: Characters of all labels of a request to classify.
        passage_characters: Characters of a passage; a query, a label or a prompt may have a hundredth of it.
        window_characters: Characters of a passage that is read in windows. All of it is computed at a time, so a
            longer one would keep other clients waiting for seconds.
        waiting: Passages of all requests that may wait; a long one counts for one more per 4,000 characters.
        body_seconds: Seconds until a request's body must have arrived.
        seconds: Seconds until a request must be answered, the arrival of its body included.

    Example:
        >>> Limits(passages=100).passages
        100
    """

    body_bytes: int = 32 << 20
    passages: int = 2000
    label_pairs: int = 20_000
    label_characters: int = 100_000
    passage_characters: int = 1_000_000
    window_characters: int = 50_000
    waiting: int = 8192
    body_seconds: float = 30.0
    seconds: float = 60.0

    @property
    def query_characters(self) -> int:
        """Characters of a query, a label or a prompt."""
        return self.passage_characters // 100
