"""Read passages from files, for the command line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_PARAGRAPH_ENDINGS = (".txt", ".md", ".markdown", ".rst")
_HEADING = re.compile(r"#{1,6} ")
_JSON_ENDINGS = (".jsonl", ".ndjson")


class Layout(StrEnum):
    """How a file holds passages."""

    AUTO = "auto"
    LINES = "lines"
    JSONL = "jsonl"
    PARAGRAPHS = "paragraphs"


@dataclass(frozen=True, slots=True)
class SourcedPassage:
    """A passage and where it came from, as ``file:line`` of its first line."""

    text: str
    source: str


def read_passages(file: str, layout: Layout = Layout.AUTO) -> list[SourcedPassage]:
    r"""Read the passages of a file.

    Args:
        file: A path, or "-" for standard input.
        layout: LINES has one passage a line, JSONL one object with a "text" a line (a "title" is
            put in front), PARAGRAPHS are parted by blank lines, a Markdown heading going with the text
            below it. AUTO is JSONL for .jsonl and
            .ndjson, PARAGRAPHS for .txt, .md, .markdown and .rst, and LINES for the rest.
            Blank lines are no passages.

    Returns:
        The passages in the file's order.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not UTF-8, or a line of JSONL has no "text"; file and line are named.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "notes.md")
        ...     _ = path.write_text("# Tea\n\nWater first.\nThen leaves.\n")
        ...     [passage.text for passage in read_passages(str(path))]
        ['# Tea\nWater first.\nThen leaves.']
    """
    try:
        text = (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}). Convert it first.") from error
    if layout is Layout.AUTO:
        layout = _guess_layout(file)
    split = {Layout.LINES: _lines, Layout.JSONL: _json_lines, Layout.PARAGRAPHS: _paragraphs}[layout]
    return [SourcedPassage(passage, f"{file}:{line}") for line, passage in split(text.removeprefix("\ufeff"), file)]


def _guess_layout(file: str) -> Layout:
    ending = Path(file).suffix.lower()
    if ending in _JSON_ENDINGS:
        return Layout.JSONL
    return Layout.PARAGRAPHS if ending in _PARAGRAPH_ENDINGS else Layout.LINES


def _lines(text: str, file: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _json_lines(text: str, file: str) -> Iterator[tuple[int, str]]:
    for number, line in _lines(text, file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}:{number} is not JSON: {error}.") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ValueError(f'{file}:{number} has no "text" string.')
        title = row.get("title")
        yield number, f"{title} {row['text']}" if title and isinstance(title, str) else row["text"]


def _paragraphs(text: str, file: str) -> Iterator[tuple[int, str]]:
    """Blocks between blank lines; a Markdown heading belongs to the paragraph below it."""
    block: list[str] = []
    first = 1
    for number, line in enumerate([*text.split("\n"), ""], 1):
        ends = not line.strip() or _HEADING.match(line)
        if ends and block and not _HEADING.match(block[-1]):
            yield first, "\n".join(block).strip()
            block = []
        if line.strip():
            first = first if block else number
            block.append(line.rstrip())
    if block:
        yield first, "\n".join(block).strip()
