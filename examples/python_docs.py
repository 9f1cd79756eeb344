"""Passages that every machine has: the sections that ``help()`` shows (``pydoc_data.topics``, part of Python)."""

from __future__ import annotations

from collections.abc import Sequence
from pydoc_data.topics import topics

PASSAGE_WORDS = 90  # about

# Questions of the examples, each with words that only the passage with the answer has.
ANSWERS = {
    "What happens when I compare two objects of different types?": "do not need to have the same type",
    "What is the difference between is and ==?": "The default behavior for equality comparison",
    "What does the yield keyword do?": "is called a *generator function*",
    "How do I loop over a dictionary and its values?": "iterated over in insertion order",
    "How do I change a variable of the enclosing function from an inner function?": 'The "global" statement has',
}


def read_passages() -> list[str]:
    """Python's language reference in passages of about ``PASSAGE_WORDS`` words, each once."""
    # Some topics share a section, hence the dict.
    return list(dict.fromkeys(passage for text in topics.values() for passage in split_topic(text)))


def split_topic(text: str) -> list[str]:
    """Join a topic's paragraphs into passages of about ``PASSAGE_WORDS`` words."""
    passages: list[str] = []
    words_so_far = PASSAGE_WORDS
    for paragraph in (" ".join(block.split()) for block in text.split("\n\n")):
        words = len(paragraph.split())
        if words < 4 and not paragraph.endswith((".", ":")):
            continue  # headings and rules
        if words_so_far + words > PASSAGE_WORDS:
            passages.append(paragraph)
            words_so_far = 0
        else:
            passages[-1] += " " + paragraph
        words_so_far += words
    return passages


def shorten(text: str, size: int = 280) -> str:
    """The first ``size`` characters of a passage."""
    return text if len(text) <= size else text[:size].rsplit(" ", 1)[0] + " …"


def compare_ranks(question: str, before: Sequence[str], after: Sequence[str]) -> str | None:
    """Say where the right passage stood before and after reranking, and whether reranking won.

    Args:
        question: A question; only those in ``ANSWERS`` have a known right passage.
        before: Passages in the first stage's order.
        after: Passages in the reranker's order.

    Returns:
        A sentence; None where the right passage is not known or the first stage missed it.

    Example:
        >>> question, phrase = next(iter(ANSWERS.items()))
        >>> compare_ranks(question, ["something else", f"They {phrase}."], [f"They {phrase}.", "something else"])
        'The right passage was number 2 and is number 1 after reranking: a win.'
    """
    phrase = ANSWERS.get(question)
    old, new = (
        next((rank for rank, text in enumerate(texts, 1) if phrase and phrase in text), None)
        for texts in (before, after)
    )
    if old is None or new is None:
        return None
    verdict = "a win" if new < old else "a loss" if new > old else "no change"
    return f"The right passage was number {old} and is number {new} after reranking: {verdict}."
