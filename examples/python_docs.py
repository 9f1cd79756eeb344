"""Passages that every machine has: the sections that ``help()`` shows (``pydoc_data.topics``, part of Python)."""

from __future__ import annotations

from pydoc_data.topics import topics

WORDS = 90  # of a passage, about


def read_passages() -> list[str]:
    """Python's language reference in passages of about ``WORDS`` words, each once."""
    # Some topics share a section, hence the dict.
    return list(dict.fromkeys(passage for text in topics.values() for passage in split_topic(text)))


def split_topic(text: str) -> list[str]:
    """Join a topic's paragraphs into passages of about ``WORDS`` words."""
    passages: list[str] = []
    open_words = WORDS
    for paragraph in (" ".join(block.split()) for block in text.split("\n\n")):
        if len(paragraph.split()) < 4 and not paragraph.endswith((".", ":")):
            continue  # headings and rules
        if open_words + len(paragraph.split()) > WORDS:
            passages.append(paragraph)
            open_words = 0
        else:
            passages[-1] += " " + paragraph
        open_words += len(paragraph.split())
    return passages


def shorten(text: str, size: int = 280) -> str:
    """The first ``size`` characters of a passage."""
    return text if len(text) <= size else text[:size].rsplit(" ", 1)[0] + " …"
