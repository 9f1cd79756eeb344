"""What goes into a language model's context: the best passages, as long as they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gliclass_rerank.reranker import RankedPassage
from gliclass_rerank.validation import check_count, check_threshold


def fill_context(
    hits: Iterable[RankedPassage],
    token_budget: int,
    *,
    threshold: float | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> list[RankedPassage]:
    """Keep the passages above a threshold, best first, until a token budget is full.

    A passage that does not fit any more is left out whole, and shorter ones behind it may still
    come in. Equal texts are kept once.

    Args:
        hits: What ``GLiClassReranker.rank`` returned, best first.
        token_budget: Tokens that all kept passages may take together, at least 1.
        threshold: Keep passages with ``score >= threshold``, in [0, 1]; None for all.
        count_tokens: Tokens of a text as the language model counts them; None for four
            characters a token, a common estimate for English.

    Returns:
        The kept passages, best first.

    Raises:
        TypeError: ``token_budget`` or ``threshold`` is of another type.
        ValueError: ``token_budget`` or ``threshold`` is out of range.

    Example:
        >>> hits = [RankedPassage(0, 0.9, "one two", False), RankedPassage(1, 0.8, "three", False)]
        >>> [hit.text for hit in fill_context(hits, 2, count_tokens=lambda text: len(text.split()))]
        ['one two']
    """
    if token_budget is None:
        raise TypeError("token_budget is None, expected an int of at least 1.")
    check_count("token_budget", token_budget)
    check_threshold("threshold", threshold)
    count = count_tokens or estimate_tokens
    kept: dict[str, RankedPassage] = {}
    left = token_budget
    for hit in hits:
        if hit.text in kept or (threshold is not None and hit.score < threshold):
            continue
        tokens = count(hit.text)
        if tokens <= left:
            kept[hit.text] = hit
            left -= tokens
    return list(kept.values())


def estimate_tokens(text: str) -> int:
    """Tokens of an English text where no tokenizer is at hand: four characters each.

    Args:
        text: The text.

    Example:
        >>> estimate_tokens("nine char")
        3
    """
    return -(-len(text) // 4)
