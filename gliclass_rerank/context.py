"""Fills a language model's context with the best passages that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gliclass_rerank.reranker import RankedPassage
from gliclass_rerank.validation import check_required_count, check_threshold


def fill_context(
    hits: Iterable[RankedPassage],
    token_budget: int,
    *,
    threshold: float | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> list[RankedPassage]:
    """Choose passages, best first, until a token budget is full.

    A passage that does not fit is left out whole, and a shorter one after it may still fit. Passages
    with nothing to read (score 0.0, or only blanks) and repeated texts are left out.

    Args:
        hits: The result of ``GLiClassReranker.rank``, best first.
        token_budget: Tokens that the chosen passages may have together, at least 1.
        threshold: Choose passages with ``score >= threshold``, in [0, 1]; None for no threshold.
        count_tokens: Counts a text's tokens as the language model does; None estimates one token
            per four characters, which suits English.

    Returns:
        The chosen passages, best first.

    Raises:
        TypeError: ``token_budget`` or ``threshold`` is not a number.
        ValueError: ``token_budget`` or ``threshold`` is out of range.

    Example:
        >>> hits = [RankedPassage(0, 0.9, "one two", False), RankedPassage(1, 0.8, "three", False)]
        >>> [hit.text for hit in fill_context(hits, 2, count_tokens=lambda text: len(text.split()))]
        ['one two']
    """
    check_required_count("token_budget", token_budget)
    check_threshold("threshold", threshold)
    count = count_tokens or estimate_tokens
    chosen: dict[str, RankedPassage] = {}
    remaining = token_budget
    for hit in hits:
        is_unreadable = hit.score == 0 or not hit.text.strip()
        is_below_threshold = threshold is not None and hit.score < threshold
        if is_unreadable or is_below_threshold or hit.text in chosen:
            continue
        tokens = count(hit.text)
        if tokens <= remaining:
            chosen[hit.text] = hit
            remaining -= tokens
    return list(chosen.values())


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of an English text without a tokenizer: one per four characters, rounded up.

    Args:
        text: The text.

    Example:
        >>> estimate_tokens("nine char")
        3
    """
    return -(-len(text) // 4)
