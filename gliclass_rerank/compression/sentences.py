"""Split a text into the smallest pieces that a reader understands: sentences, and blocks of Markdown.

markdown-it tells code blocks, tables, lists and headings, which lose their meaning in pieces; sentencex splits the
prose between them. Both give places in the text, so a piece is the text as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]  # the first character, and the one after the last

# A table or a sentence that is longer is split all the same: nothing else would fit into a small budget.
MAX_CHARACTERS = 800

_NEWLINE = re.compile(r"\r\n?|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")  # sentencex refuses them
_BLOCKS = ("code", "fence", "table", "list", "heading", "lheading")


def split_sentences(text: str, max_characters: int = MAX_CHARACTERS) -> list[Span]:
    r"""Split a text into sentences and blocks.

    Args:
        text: The text, plain or in Markdown.
        max_characters: A longer piece is split at a line's end, or else between words, or else anywhere.

    Returns:
        The spans of the pieces in reading order. They do not overlap, and only blanks lie between them.

    Example:
        >>> text = "# Tea\nBoil water. Pour it.\n\n- green\n- black"
        >>> [text[start:end] for start, end in split_sentences(text)]
        ['# Tea', 'Boil water.', 'Pour it.', '- green\n- black']
    """
    return [
        piece
        for block, is_prose in _split_blocks(text)
        for span in (_split_prose(text, block) if is_prose else [block])
        for piece in _split_long(text, span, max_characters)
    ]


def _split_blocks(text: str) -> Iterator[tuple[Span, bool]]:
    """The blocks of a text, and whether each is prose. Together they hold all of it."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("zero").enable([*_BLOCKS])
    line_starts = [0, *(newline.end() for newline in _NEWLINE.finditer(text)), len(text)]
    last = len(line_starts) - 1
    line = 0
    for token in parser.parse(text):
        if token.level or token.map is None or token.type == "paragraph_open":
            continue
        first, after = token.map
        if line < first:
            yield (line_starts[line], line_starts[first]), True
        line = min(after, last)
        yield (line_starts[first], line_starts[line]), False
    yield (line_starts[line], len(text)), True


def _split_prose(text: str, block: Span) -> list[Span]:
    from sentencex import get_sentence_boundaries

    first, last = block
    prose = _SURROGATE.sub("\ufffd", text[first:last])  # one character for one, so that places stay
    boundaries = get_sentence_boundaries("en", prose)
    return [(first + boundary["start_index"], first + boundary["end_index"]) for boundary in boundaries]


def _split_long(text: str, span: Span, max_characters: int) -> Iterator[Span]:
    """The span without blanks around it, in pieces that are not too long; none if it has only blanks."""
    start, end = span
    end = start + len(text[start:end].rstrip())
    while start < end:
        start = end - len(text[start:end].lstrip())
        cut = end if end - start <= max_characters else _find_cut(text, start, start + max_characters)
        yield start, start + len(text[start:cut].rstrip())
        start = cut


def _find_cut(text: str, start: int, limit: int) -> int:
    """The last end of a line up to a limit, or else the last blank, or else the limit."""
    for blank in ("\n", " "):
        cut = text.rfind(blank, start + 1, limit + 1)
        if cut > 0:
            return cut
    return limit
