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

from gliclass_rerank.bulk.rows import FOUND

_AT_A_TIME = 256  # rows in memory
Scored = tuple[Any, list[dict[str, Any]]]  # a batch as it was read, and what was found for each of its rows


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

    def read(self, part: Part) -> Iterator[Any]:
        """A part in batches of a few hundred rows."""

    def rows(self, batch: Any) -> list[Any]:  # noqa: ANN401 - as it was read
        """What a batch's rows hold that is needed to score them; whatever is no object stays what it is."""

    def write(self, target: Path, scored: Iterable[Scored]) -> None:
        """Write batches with what was found for each row beside what they had."""

    def count_errors(self, target: Path) -> int:
        """How many rows that were written have an error."""


def open_part_file(path: Path) -> PartFile:
    """A file by its name.

    Args:
        path: A .jsonl or .parquet file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The name ends otherwise, or the columns are not what is wanted.

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

    def rows(self, batch: list[Any]) -> list[Any]:
        return batch

    def write(self, target: Path, scored: Iterable[Scored]) -> None:
        with target.open("w", encoding="utf-8") as out:
            for rows, found in scored:
                for row, of_row in zip(rows, found, strict=True):
                    # What is no object, or has names of what was found, goes whole into one of its own.
                    kept = row if isinstance(row, dict) and not row.keys() & set(FOUND) else {"row": row}
                    out.write(json.dumps({**kept, **of_row}) + "\n")

    def count_errors(self, target: Path) -> int:
        with target.open(encoding="utf-8") as lines:
            return sum(json.loads(line)["error"] is not None for line in lines)


class _Parquet:
    """Row groups are cut into parts, since one may be larger than memory should be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with pq.ParquetFile(path) as file:
            self._schema = file.schema_arrow
        names = self._schema.names
        self._wanted = ["query", "passages" if "passages" in names else "passage"]
        if not set(self._wanted) <= set(names) or len(set(names)) < len(names):
            raise ValueError(f"{path.name} has the columns {names}, expected query and passage or passages, each once.")
        taken = [name for name in FOUND if name in names]
        if taken:
            raise ValueError(f"{path.name} has a column {taken[0]!r}, where what is found is written. Rename it.")

    def parts(self, rows: int) -> Iterator[Part]:
        number = 0
        with pq.ParquetFile(self._path) as file:
            for group in range(file.num_row_groups):
                of_group = file.metadata.row_group(group).num_rows
                for start in range(0, of_group, rows):
                    yield Part(number, start, min(rows, of_group - start), group)
                    number += 1

    def read(self, part: Part) -> Iterator[pa.RecordBatch]:
        seen, end = 0, part.start + part.rows
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(_AT_A_TIME, row_groups=[part.row_group]):
                first, last = max(part.start - seen, 0), min(end - seen, len(batch))
                if first < last:
                    yield batch.slice(first, last - first)
                seen += len(batch)
                if seen >= end:
                    return

    def rows(self, batch: pa.RecordBatch) -> list[Any]:
        rows: list[Any] = batch.select(self._wanted).to_pylist()
        return rows

    def write(self, target: Path, scored: Iterable[Scored]) -> None:
        is_list = "passages" in self._wanted
        added = [
            pa.field("scores", pa.list_(pa.float64())) if is_list else pa.field("score", pa.float64()),
            pa.field("error", pa.string()),
        ]
        schema = self._schema
        for field in added:
            schema = schema.append(field)
        with pq.ParquetWriter(target, schema) as out:
            for batch, found in scored:
                # The columns as they are: not every type comes back from Python as it was.
                columns = [pa.array([of_row[field.name] for of_row in found], field.type) for field in added]
                out.write_batch(pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=schema))

    def count_errors(self, target: Path) -> int:
        errors = pq.read_table(target, columns=["error"])["error"]
        return len(errors) - int(errors.null_count)


def _read_line(line: bytes) -> Any:  # noqa: ANN401 - whatever the line holds
    try:
        return json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return line.decode(errors="replace").rstrip("\r\n")  # it will be told what is wrong with it


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
