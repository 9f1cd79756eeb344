"""Read rows with named values from JSON lines, a JSON array or CSV, so that errors name the file and the row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from gliclass_rerank.data.beir import read_json, read_json_lines
from gliclass_rerank.data.json_text import not_utf8

_DELIMITERS = ",;\t"


def read_table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Read the rows of a file: CSV if its name ends in .csv or .tsv, else JSON lines, or a JSON array in a .json file.

    Args:
        path: The file.

    Yields:
        Each row by key or column, with its place: ``file:line``, or ``file[index]`` in an array. CSV gives strings.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not UTF-8, or a row is not an object or has not as many values as the header; the
            message names file and row.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "pairs.csv")
        ...     _ = path.write_text("query,answer\nhow to make tea?,Water first.\n")
        ...     [row for place, row in read_table(path)]
        [{'query': 'how to make tea?', 'answer': 'Water first.'}]
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            with path.open(encoding="utf-8-sig", newline="") as stream:
                rows = read_csv(stream, str(path), "Or write the rows as JSON lines.")
                _, header = next(rows, ("", []))
                yield from ((place, dict(zip(header, row, strict=True))) for place, row in rows)
        elif suffix == ".json" and _holds_array(path):
            for index, row in enumerate(read_json(path)):
                if not isinstance(row, dict):
                    raise ValueError(f"{path}[{index}] is {str(row)[:60]!r}; expected a JSON object.")
                yield f"{path}[{index}]", row
        else:
            yield from read_json_lines(path)
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def read_csv(stream: TextIO, file: str, way_out: str) -> Iterator[tuple[str, list[str]]]:
    r"""Split CSV into rows of as many values as the first, the header; it says which of comma, semicolon and tab parts.

    Args:
        stream: The text, opened with ``newline=""``.
        file: Its name, for places and errors.
        way_out: What else the user can do about an error.

    Yields:
        Each row that is not blank, the header first, with its place as ``file:line``.

    Raises:
        ValueError: A row has more or fewer values than the header, or a quote is open; the message names the line.

    Example:
        >>> import io
        >>> list(read_csv(io.StringIO("id;text\n1;tea\n"), "a.csv", ""))
        [('a.csv:1', ['id', 'text']), ('a.csv:2', ['1', 'tea'])]
    """
    header_line = next(stream, "")
    delimiter = max(_DELIMITERS, key=header_line.count)
    rows = csv.reader(chain([header_line], stream), delimiter=delimiter, strict=True)
    width, number = 0, 1
    try:
        for row in rows:
            width = width or len(row)
            if row and len(row) != width:
                raise ValueError(
                    f"{file}:{number} has {len(row)} columns, but the header has {width}. "
                    f"Put quotes around values that hold the separator {delimiter!r}. {way_out}"
                )
            if row:
                yield f"{file}:{number}", row
            number = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{file}:{rows.line_num} is not CSV: {error}. Close every quote. {way_out}") from error


def _holds_array(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as lines:
        return next((line.strip() for line in lines if line.strip()), "").startswith("[")
