"""Read passages from files of many kinds, one at a time, so that a file may be larger than memory."""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import IO, Any, TextIO

from gliclass_rerank.data.json_text import not_utf8, parse_json
from gliclass_rerank.data.tables import read_csv

_HEADING = re.compile(r"#{1,6} ")


class Layout(StrEnum):
    """How a file holds passages."""

    AUTO = "auto"
    LINES = "lines"
    PARAGRAPHS = "paragraphs"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"


_LAYOUTS = {
    ".txt": Layout.PARAGRAPHS,
    ".md": Layout.PARAGRAPHS,
    ".markdown": Layout.PARAGRAPHS,
    ".rst": Layout.PARAGRAPHS,
    ".jsonl": Layout.JSONL,
    ".ndjson": Layout.JSONL,
    ".json": Layout.JSON,
    ".csv": Layout.CSV,
    ".tsv": Layout.CSV,
}


@dataclass(frozen=True, slots=True)
class SourcedPassage:
    """A passage and its source: ``file:line`` of its first line, or ``file[index]`` of an item of a JSON array."""

    text: str
    source: str


class PassageFiles:
    r"""The passages of some files, which can be iterated over again and again and have a length.

    The constructor reads the files once to count the passages, so a broken line at the end of a large file is
    reported before any work. Memory stays small, except for a JSON array, which is read as a whole.

    - LINES: one passage per line.
    - PARAGRAPHS: split at blank lines; a Markdown heading belongs to the text below it.
    - JSONL: one JSON object per line. JSON: an array of objects. CSV: rows below a header, separated by commas,
      semicolons or tabs. The passage is the column ``text_column``, with the column "title" in front, if there is
      one. JSONL and JSON may also hold plain strings.
    - AUTO chooses by the name: PARAGRAPHS for .txt, .md, .markdown and .rst; JSONL for .jsonl and .ndjson; JSON for
      .json; CSV for .csv and .tsv; LINES for all others.

    Blank lines are skipped.

    Args:
        files: Paths of files; of folders, of which all files with one of the endings above are read; or "-" for
            standard input. They may not change while they are read.
        layout: How the files hold passages.
        text_column: The CSV column or JSON key that holds the passage.

    Raises:
        OSError: A file does not exist or cannot be read, or a folder has no file to read.
        ValueError: A file is not UTF-8, or a line or row of it holds no passage; file and line are named.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "notes.md")
        ...     _ = path.write_text("# Tea\n\nWater first.\nThen leaves.\n")
        ...     [passage.text for passage in PassageFiles([str(path)])]
        ['# Tea\nWater first.\nThen leaves.']
    """

    def __init__(self, files: Sequence[str], layout: Layout = Layout.AUTO, text_column: str = "text") -> None:
        self._layout, self._text_column = layout, text_column
        # Standard input and pipes can be read only once, so their content goes into a temporary file.
        self._copies: dict[str, IO[bytes]] = {}
        self._files = [path for file in files for path in _expand(file)]
        self._count = sum(1 for _ in self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SourcedPassage]:
        for file in self._files:
            layout = self._layout
            if layout is Layout.AUTO:
                layout = _LAYOUTS.get(Path(file).suffix.lower(), Layout.LINES)
            with self._open(file) as stream:
                try:
                    for place, passage in self._split(stream, file, layout):
                        yield SourcedPassage(passage, place)
                except UnicodeDecodeError as error:
                    raise not_utf8(file, error) from error

    @contextmanager
    def _open(self, file: str) -> Iterator[TextIO]:
        if file != "-" and Path(file).is_file():
            with Path(file).open(encoding="utf-8-sig", newline="") as text:
                yield text
            return
        if file not in self._copies:
            self._copies[file] = _copy(file)
            weakref.finalize(self, self._copies[file].close)
        copy = self._copies[file]
        copy.seek(0)
        text = io.TextIOWrapper(copy, encoding="utf-8-sig", newline="")
        try:
            yield text
        finally:
            text.detach()  # otherwise the copy would be closed, and deleted, with the wrapper

    def _split(self, stream: TextIO, file: str, layout: Layout) -> Iterator[tuple[str, str]]:
        """Pairs of a place and a passage."""
        if layout in (Layout.LINES, Layout.PARAGRAPHS):
            split = _split_lines if layout is Layout.LINES else _split_paragraphs
            for number, passage in split(stream):
                yield f"{file}:{number}", passage
            return
        read_rows = {Layout.JSONL: _read_json_lines, Layout.JSON: _read_json_array, Layout.CSV: _read_csv}[layout]
        for place, row in read_rows(stream, file, self._text_column):
            yield place, row if isinstance(row, str) else _passage_of_row(row, place, self._text_column)


def _expand(file: str) -> list[str]:
    """The file itself, or the readable files in a folder."""
    path = Path(file)
    if file == "-" or (path.exists() and not path.is_dir()):
        return [file]
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {file!r}. Check the path.")
    files = sorted(
        str(inner)
        for inner in path.rglob("*")
        if inner.suffix.lower() in _LAYOUTS
        and inner.is_file()
        and not any(name.startswith(".") for name in inner.relative_to(path).parts)
    )
    if not files:
        raise FileNotFoundError(f"the folder {file!r} has no file that ends in {', '.join(_LAYOUTS)}. Name the files.")
    return files


def _copy(file: str) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - open until the passages are no longer needed
    if file == "-":
        shutil.copyfileobj(sys.stdin.buffer, copy)
    else:
        with Path(file).open("rb") as pipe:
            shutil.copyfileobj(pipe, copy)
    return copy


def _split_lines(stream: TextIO) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, line.strip()


def _split_paragraphs(stream: TextIO) -> Iterator[tuple[int, str]]:
    block: list[str] = []
    first_number = 1
    for number, line in enumerate(chain(stream, [""]), 1):
        is_end = not line.strip() or _HEADING.match(line)
        if is_end and block and not _HEADING.match(block[-1]):
            yield first_number, "\n".join(block).strip()
            block = []
        if line.strip():
            first_number = first_number if block else number
            block.append(line.rstrip())
    if block:
        yield first_number, "\n".join(block).strip()


def _read_json_lines(stream: TextIO, file: str, text_column: str) -> Iterator[tuple[str, Any]]:
    for number, line in _split_lines(stream):
        yield f"{file}:{number}", parse_json(line, f"{file}:{number}")


def _read_json_array(stream: TextIO, file: str, text_column: str) -> Iterator[tuple[str, Any]]:
    text, way_out = stream.read(), "If it has one object per line, use --layout jsonl."
    try:
        rows = parse_json(text, file)
    except ValueError as error:
        raise ValueError(f"{error} {way_out}") from error
    if not isinstance(rows, list):
        kind = _name_type(rows)
        raise ValueError(f'{file} is a JSON {kind}; expected an array of objects with "{text_column}". {way_out}')
    for index, row in enumerate(rows):
        yield f"{file}[{index}]", row


def _read_csv(stream: TextIO, file: str, text_column: str) -> Iterator[tuple[str, dict[str, str]]]:
    way_out = "Or read one passage per line with --layout lines."
    rows = read_csv(stream, file, way_out)
    _, header = next(rows, ("", []))
    if header and text_column not in header:
        raise ValueError(
            f"{file} has the columns {', '.join(map(repr, header))}, but not {text_column!r}. "
            f"Name the one that holds the passage with --text-column. {way_out}"
        )
    for place, row in rows:
        yield place, dict(zip(header, row, strict=True))


def _passage_of_row(row: Any, place: str, text_column: str) -> str:  # noqa: ANN401 - checked here
    if not isinstance(row, dict):
        raise ValueError(f'{place} has no "{text_column}" string: it is a JSON {_name_type(row)}; expected an object.')
    text = row.get(text_column)
    if not isinstance(text, str):
        keys = ", ".join(map(repr, row)) or "nothing"
        way_out = "Name the key that holds the passage with --text-column."
        raise ValueError(f'{place} has no "{text_column}" string, but {keys}. {way_out}')
    title = row.get("title") if text_column != "title" else None
    return f"{title} {text}" if title and isinstance(title, str) else text


def _name_type(value: Any) -> str:  # noqa: ANN401 - any JSON
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
