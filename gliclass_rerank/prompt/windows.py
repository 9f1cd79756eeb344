"""Where a long text is parted into overlapping windows."""

from __future__ import annotations

import re
from collections.abc import Sequence

Span = tuple[int, int]  # the first character, and the one behind the last

_SENTENCE_END = re.compile(r"""[.!?…][)\]"'”’»]*\s+$|[。！？][」』）”’]*\s*$|\n\s*$""")
_CLOSING = tuple("」』）”’")  # of a sentence, behind its full stop
_SEEN = 8  # characters in front of a token, to tell whether a sentence ends there


def part(text: str, tokens: Sequence[Span], size: int) -> list[Span]:
    """Part a text into windows that overlap by about half, or more where they are tiny.

    They begin and end between sentences where one ends in the quarter of a window in front of the
    place, else between words.

    Args:
        text: The text.
        tokens: Where each of its tokens stands.
        size: Tokens of a window, at least 1.

    Returns:
        The windows' places, in order; each token lies in at least one.

    Example:
        >>> text = "one two three four five"
        >>> tokens = [(0, 3), (4, 7), (8, 13), (14, 18), (19, 23)]
        >>> [text[start:end] for start, end in part(text, tokens, 4)]
        ['one two three four', 'three four five']
    """
    spans: list[Span] = []
    most_back = size // 4  # with more, there would be gaps
    for place in range(0, max(len(tokens), 1), max(1, size // 2)):
        first = _boundary(text, tokens, place, most_back)
        start = tokens[first][0] if first else 0
        if first + size >= len(tokens):
            return [*spans, (start, len(text))]
        spans.append((start, tokens[_boundary(text, tokens, first + size, most_back) - 1][1]))
    return spans


def _boundary(text: str, tokens: Sequence[Span], place: int, most_back: int) -> int:
    """The last token up to a place that begins a sentence, or a word, or the one at the place."""
    near = range(place, max(place - most_back, 0), -1)
    for begins in (_begins_sentence, _begins_word):
        for i in near:
            if begins(text, tokens[i][0]):
                return i
    return place


def _begins_sentence(text: str, start: int) -> bool:
    # Some tokenizers count the blank in front of a word to it.
    start += text[start : start + 1].isspace()
    return not text.startswith(_CLOSING, start) and bool(_SENTENCE_END.search(text[max(start - _SEEN, 0) : start]))


def _begins_word(text: str, start: int) -> bool:
    return any(c.isspace() for c in text[max(start - 1, 0) : start + 1])


def halve(span: Span) -> list[Span]:
    """Two windows in place of one, which overlap by half of it; the same one where it cannot be parted.

    Args:
        span: Where the window stands.

    Example:
        >>> halve((0, 100))
        [(0, 75), (25, 100)]
    """
    start, end = span
    quarter = (end - start) // 4
    if end - start < 2:
        return [span]
    return [(start, end - max(quarter, 1)), (start + max(quarter, 1), end)]
