"""Where benchmark results go, with what is needed to read and repeat them.

A result carries the tables that show it: ``table``, named like its file, or ``tables`` by name.
``python -m benchmarks.tables`` copies them into the pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from rich.console import Console
from rich.table import Table

from gliclass_rerank.evaluation.environment import describe_command, describe_environment

RESULTS = Path(__file__).parent / "results"


class ResultTable(TypedDict):
    """A table as the terminal and the pages show it."""

    header: list[str]
    rows: list[list[str]]


def make_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> ResultTable:
    """A table of text cells.

    Args:
        header: One title per column.
        rows: As many cells per row; format numbers before, as a reader should see them.
    """
    return {"header": [str(title) for title in header], "rows": [[str(cell) for cell in row] for row in rows]}


def print_table(table: ResultTable, title: str | None = None) -> None:
    """Print a table to the terminal."""
    printed = Table(*table["header"], title=title)
    for row in table["rows"]:
        printed.add_row(*row)
    Console().print(printed)


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write results/<name>.json: the command, the versions, the hardware and the result."""
    record = {
        "command": describe_command(f"python -m benchmarks.{Path(sys.argv[0]).stem}", sys.argv[1:]),
        **describe_environment("gliclass"),
        **result,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
