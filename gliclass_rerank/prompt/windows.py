"""Split a long text into overlapping windows that each fit into a sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gliclass_rerank.prompt.builder import PromptBuilder
from gliclass_rerank.prompt.tokenizer import MAX_CHARACTERS, EncodedText, Span

_SENTENCE_END = re.compile(r"""[.!?…][)\]"'”’»]*\s+$|[。！？][」』）”’]*\s*$|\n\s*$""")
_CLOSING = tuple("」』）”’")  # of a sentence, after its full stop
_LOOK_BACK = 8  # characters in front of a token, to see whether a sentence ends there


def encode_windows(
    prompts: PromptBuilder, text: str, max_tokens: int, *, room: int, size: int
) -> list[tuple[Span, EncodedText]]:
    """Split a text that does not fit into windows, and tokenise each on its own.

    Args:
        prompts: Tokenises.
        text: The text.
        max_tokens: Tokens of a window that are read, at least ``room``.
        room: Tokens that a sequence has for a text.
        size: Tokens of a window, at most ``room``.

    Returns:
        The windows in reading order, each with its span and its token ids; none that has no token.

    Example:
        >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
        >>> windows = encode_windows(load_checkpoint().prompts, "one two three", 512, room=2, size=2)
        >>> [span for span, _ in windows]
        [(0, 7), (4, 13)]
    """
    spans = split_at_tokens(text, prompts.tokenizer.token_spans(text), size)
    spans = [piece for span in spans for piece in _split_at_characters(span, MAX_CHARACTERS)]
    while True:
        encoded = prompts.encode_texts([text[start:end] for start, end in spans], max_tokens)
        windows = [(span, ids) for span, ids in zip(spans, encoded, strict=True) if ids.ids]
        # A window may become more tokens on its own than it had inside its text.
        smaller = [
            piece for span, ids in windows for piece in (halve(span) if ids.is_cut or len(ids.ids) > room else [span])
        ]
        if smaller == [span for span, _ in windows]:
            return windows
        spans = smaller


def split_at_tokens(text: str, tokens: Sequence[Span], size: int) -> list[Span]:
    """Split a text into windows that overlap by about half, or by more where they are tiny.

    A window begins and ends between sentences if a sentence ends in the quarter of a window before
    that place, and otherwise between words.

    Args:
        text: The text.
        tokens: The span of each of its tokens.
        size: Tokens of a window, at least 1.

    Returns:
        The windows' spans, in order; each token lies in at least one.

    Example:
        >>> text = "one two three four five"
        >>> tokens = [(0, 3), (4, 7), (8, 13), (14, 18), (19, 23)]
        >>> [text[start:end] for start, end in split_at_tokens(text, tokens, 4)]
        ['one two three four', 'three four five']
    """
    spans: list[Span] = []
    max_back = size // 4  # with more, there would be gaps
    for place in range(0, max(len(tokens), 1), max(1, size // 2)):
        first = _boundary(text, tokens, place, max_back)
        start = tokens[first][0] if first else 0
        if first + size >= len(tokens):
            return [*spans, (start, len(text))]
        spans.append((start, tokens[_boundary(text, tokens, first + size, max_back) - 1][1]))
    return spans


def _boundary(text: str, tokens: Sequence[Span], place: int, max_back: int) -> int:
    """The last token up to a place that begins a sentence, or a word, or the one at the place."""
    near = range(place, max(place - max_back, 0), -1)
    for begins in (_begins_sentence, _begins_word):
        for i in near:
            if begins(text, tokens[i][0]):
                return i
    return place


def _begins_sentence(text: str, start: int) -> bool:
    # Some tokenizers count the blank in front of a word to it.
    start += text[start : start + 1].isspace()
    before = text[max(start - _LOOK_BACK, 0) : start]
    return not text.startswith(_CLOSING, start) and bool(_SENTENCE_END.search(before))


def _begins_word(text: str, start: int) -> bool:
    return any(c.isspace() for c in text[max(start - 1, 0) : start + 1])


def _split_at_characters(span: Span, max_characters: int) -> list[Span]:
    """Pieces that are no longer than the tokenizer reads: half a million blanks may lie between two tokens."""
    start, end = span
    return [(first, min(first + max_characters, end)) for first in range(start, end, max_characters)] or [span]


def halve(span: Span) -> list[Span]:
    """Two windows in place of one, which overlap by half of it; the same one if it has a single character.

    Args:
        span: The window's span.

    Example:
        >>> halve((0, 100))
        [(0, 75), (25, 100)]
    """
    start, end = span
    quarter = (end - start) // 4
    if end - start < 2:
        return [span]
    return [(start, end - max(quarter, 1)), (start + max(quarter, 1), end)]
