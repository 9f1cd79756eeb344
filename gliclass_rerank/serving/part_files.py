"""Files of rows that are read and written in parts: JSON lines and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

_AT_A_TIME = 256  # rows in memory
Scored = tuple[list[Any], list[dict[str, Any]]]  # rows, and what was found for each


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a file that lie side by side.

    Attributes:
        number: Which part it is.
        start: Where it starts: a byte of JSON lines, a row of a row group in Parquet.
        rows: How many rows it has.
        row_group: Of a Parquet file.
    """

    number: int
    start: int
    rows: int
    row_group: int = 0


class PartFile(Protocol):
    """A file of rows."""

    def parts(self, rows: int) -> Iterator[Part]:
        """All of the file in parts of so many rows at most."""

    def read(self, part: Part) -> Iterator[list[Any]]:
        """The rows of a part, a few hundred at a time; whatever is no object stays what it is."""

    def write(self, target: Path, scored: Iterable[Scored]) -> None:
        """Write rows with what was found for each beside what they had."""

    def count_errors(self, target: Path) -> int:
        """How many rows that were written have an error."""


def open_part_file(path: Path) -> PartFile:
    """A file by its name.

    Args:
        path: A .jsonl or .parquet file.

    Raises:
        ValueError: The name ends otherwise.

    Example:
        >>> open_part_file(Path("pairs.csv"))
        Traceback (most recent call last):
        ValueError: the input is pairs.csv, expected a .jsonl or .parquet file.
    """
    if path.suffix == ".jsonl":
        return _JsonLines(path)
    if path.suffix == ".parquet":
        return _Parquet(path)
    raise ValueError(f"the input is {path.name}, expected a .jsonl or .parquet file.")


class _JsonLines:
    """A line per row, also where it is blank or no JSON: line n of the output is of line n of the input."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def parts(self, rows: int) -> Iterator[Part]:
        number, start = 0, 0
        with self._path.open("rb") as lines:
            while lengths := [len(line) for line in islice(lines, rows)]:
                yield Part(number, start, len(lengths))
                number, start = number + 1, start + sum(lengths)

    def read(self, part: Part) -> Iterator[list[Any]]:
        with self._path.open("rb") as lines:
            lines.seek(part.start)
            of_part = islice(lines, part.rows)
            while some := list(islice(of_part, _AT_A_TIME)):
                yield [_read_line(line) for line in some]

    def write(self, target: Path, scored: Iterable[Scored]) -> None:
        with target.open("w", encoding="utf-8") as out:
            for rows, found in scored:
                for row, of_row in zip(rows, found, strict=True):
                    kept = row if isinstance(row, dict) else {"row": row}
                    out.write(json.dumps({**kept, **of_row}) + "\n")

    def count_errors(self, target: Path) -> int:
        with target.open(encoding="utf-8") as lines:
            return sum(json.loads(line)["error"] is not None for line in lines)


class _Parquet:
    """Row groups are cut into parts, since one may be larger than memory should be."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def parts(self, rows: int) -> Iterator[Part]:
        number = 0
        with pq.ParquetFile(self._path) as file:
            for group in range(file.num_row_groups):
                of_group = file.metadata.row_group(group).num_rows
                for start in range(0, of_group, rows):
                    yield Part(number, start, min(rows, of_group - start), group)
                    number += 1

    def read(self, part: Part) -> Iterator[list[Any]]:
        seen, end = 0, part.start + part.rows
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(_AT_A_TIME, row_groups=[part.row_group]):
                first, last = max(part.start - seen, 0), min(end - seen, len(batch))
                if first < last:
                    yield batch.slice(first, last - first).to_pylist()
                seen += len(batch)
                if seen >= end:
                    return

    def write(self, target: Path, scored: Iterable[Scored]) -> None:
        with pq.ParquetFile(self._path) as file:
            given = file.schema_arrow
        scores = ("scores", pa.list_(pa.float64())) if "passages" in given.names else ("score", pa.float64())
        added = [pa.field(*scores), pa.field("error", pa.string())]
        kept = [field for field in given if field.name not in ("score", "scores", "error")]
        schema = pa.schema([*kept, *added])
        with pq.ParquetWriter(target, schema) as out:
            for rows, found in scored:
                whole = [{**row, **of_row} for row, of_row in zip(rows, found, strict=True)]
                out.write_table(pa.Table.from_pylist(whole, schema))

    def count_errors(self, target: Path) -> int:
        errors = pq.read_table(target, columns=["error"])["error"]
        return len(errors) - int(errors.null_count)


def _read_line(line: bytes) -> Any:  # noqa: ANN401 - whatever the line holds
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line.decode(errors="replace").rstrip("\r\n")  # it will be told what is wrong with it
