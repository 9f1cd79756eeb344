"""Read and write files of rows in parts: JSON lines and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from gliclass_rerank.bulk.rows import RESULT_COLUMNS

_BATCH_ROWS = 256  # rows in memory at a time
ScoredBatch = tuple[Any, list[dict[str, Any]]]  # a batch as it was read, and a result for each of its rows


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of a file.

    Attributes:
        number: Its position among the parts.
        start: Where it starts: a byte offset in JSON lines, a row of the row group in Parquet.
        rows: How many rows it has.
        row_group: The row group of a Parquet file.
    """

    number: int
    start: int
    rows: int
    row_group: int = 0


class PartFile(Protocol):
    """A file of rows."""

    def parts(self, rows: int) -> Iterator[Part]:
        """Cut the file into parts of at most ``rows`` rows."""

    def read(self, part: Part) -> Iterator[Any]:
        """Read a part in batches of at most a few hundred rows."""

    def rows(self, batch: Any) -> list[Any]:  # noqa: ANN401 - depends on the kind of file
        """Convert a batch to rows with what is needed to score them; an item that is not an object stays as it is."""

    def write(self, target: Path, batches: Iterable[ScoredBatch]) -> None:
        """Write batches, with each row's result beside its own columns."""

    def count_errors(self, target: Path, rows: int) -> int:
        """Count the rows of a written part that have an error; a ValueError says how the part is damaged."""


def open_part_file(path: Path) -> PartFile:
    """Open a file of rows by the ending of its name.

    Args:
        path: A .jsonl or .parquet file.

    Returns:
        The reader and writer for this kind of file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The name ends otherwise, or the columns are wrong.

    Example:
        >>> open_part_file(Path("pairs.csv"))
        Traceback (most recent call last):
        ValueError: the input is pairs.csv; expected a .jsonl or .parquet file. Convert it first.
    """
    if path.suffix == ".jsonl":
        return _JsonLines(path)
    if path.suffix == ".parquet":
        return _Parquet(path)
    raise ValueError(f"the input is {path.name}; expected a .jsonl or .parquet file. Convert it first.")


class _JsonLines:
    """A row per line, even if it is blank or not JSON: line n of the output belongs to line n of the input."""

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
            part_lines = islice(lines, part.rows)
            while batch := list(islice(part_lines, _BATCH_ROWS)):
                yield [_read_line(line) for line in batch]

    def rows(self, batch: list[Any]) -> list[Any]:
        return batch

    def write(self, target: Path, batches: Iterable[ScoredBatch]) -> None:
        with target.open("w", encoding="utf-8", newline="\n") as out:
            for rows, results in batches:
                for row, result in zip(rows, results, strict=True):
                    # Nested if the result would replace keys of the row, or the line is not an object.
                    is_free = isinstance(row, dict) and not row.keys() & set(RESULT_COLUMNS)
                    out.write(json.dumps({**(row if is_free else {"row": row}), **result}) + "\n")

    def count_errors(self, target: Path, rows: int) -> int:
        count = failed = 0
        with target.open("rb") as lines:
            for count, line in enumerate(lines, 1):
                row = _read_line(line)
                if not isinstance(row, dict) or "error" not in row or not line.endswith(b"\n"):
                    raise ValueError(f"line {count} is damaged")
                failed += row["error"] is not None
        _check_row_count(count, rows)
        return failed


class _Parquet:
    """Parts lie within row groups; a row group may be too large for memory, so it is cut further."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with pq.ParquetFile(path) as file:
            self._schema = file.schema_arrow
        names = self._schema.names
        self._input_columns = ["query", "passages" if "passages" in names else "passage"]
        if not set(self._input_columns) <= set(names) or len(set(names)) < len(names):
            raise ValueError(f"{path.name} has the columns {names}; expected query and passage or passages, each once.")
        for name in RESULT_COLUMNS:
            if name in names:
                raise ValueError(f"{path.name} has a column {name!r}, which the output needs. Rename it.")

    def parts(self, rows: int) -> Iterator[Part]:
        number = 0
        with pq.ParquetFile(self._path) as file:
            for group in range(file.num_row_groups):
                group_rows = file.metadata.row_group(group).num_rows
                for start in range(0, group_rows, rows):
                    yield Part(number, start, min(rows, group_rows - start), group)
                    number += 1

    def read(self, part: Part) -> Iterator[pa.RecordBatch]:
        seen, end = 0, part.start + part.rows
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[part.row_group]):
                first, last = max(part.start - seen, 0), min(end - seen, len(batch))
                if first < last:
                    yield batch.slice(first, last - first)
                seen += len(batch)
                if seen >= end:
                    return

    def rows(self, batch: pa.RecordBatch) -> list[Any]:
        rows: list[Any] = batch.select(self._input_columns).to_pylist()
        return rows

    def write(self, target: Path, batches: Iterable[ScoredBatch]) -> None:
        has_lists = "passages" in self._input_columns
        fields = [
            pa.field("scores", pa.list_(pa.float64())) if has_lists else pa.field("score", pa.float64()),
            pa.field("error", pa.string()),
        ]
        schema = self._schema
        for field in fields:
            schema = schema.append(field)
        with pq.ParquetWriter(target, schema, write_page_checksum=True) as out:
            for batch, results in batches:
                # Copied as Arrow columns, since some types do not survive a conversion to Python.
                columns = [pa.array([result[field.name] for result in results], field.type) for field in fields]
                out.write_batch(pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=schema))

    def count_errors(self, target: Path, rows: int) -> int:
        count = failed = 0
        try:
            with pq.ParquetFile(target, page_checksum_verification=True) as file:
                for batch in file.iter_batches(_BATCH_ROWS):
                    errors = batch.column("error")
                    count, failed = count + len(errors), failed + len(errors) - errors.null_count
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:  # Arrow reports a broken page as OSError
            raise ValueError(f"it is damaged: {error}") from error
        _check_row_count(count, rows)
        return failed


def _check_row_count(count: int, expected: int) -> None:
    if count != expected:
        raise ValueError(f"it has {count} rows, expected {expected}")


def _read_line(line: bytes) -> Any:  # noqa: ANN401 - whatever the line holds
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return line.decode(errors="replace").rstrip("\r\n")  # its result says that it is not an object


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
