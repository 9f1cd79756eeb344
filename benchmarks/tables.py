"""Copy the tables of results/*.json into the pages that show them.

    python -m benchmarks.tables

A page marks a table's place with ``<!-- table: NAME -->`` and ``<!-- end -->``; what stands between is replaced.
Several names join the rows of tables that have the same header. ``<!-- table: NAME; rows a b; columns 1 3 -->`` shows
only the rows that begin with ``a`` and ``b``, and the first and third column.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.results_file import RESULTS, ResultTable

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"(<!-- table: ([\w ]+?)(?:; rows ([^;]+?))?(?:; columns ([\d ]+?))? -->).*?(<!-- end -->)", re.DOTALL
)


def read_tables() -> dict[str, ResultTable]:
    """The tables of all results by name."""
    tables: dict[str, ResultTable] = {}
    for path in RESULTS.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        tables |= record.get("tables", {})
        if "table" in record:
            tables[path.stem] = record["table"]
    return tables


def to_markdown(tables: list[ResultTable], row_names: list[str], columns: list[int]) -> str:
    """One Markdown table with the rows of all tables, or with the named rows and numbered columns alone."""
    header = tables[0]["header"]
    if any(table["header"] != header for table in tables):
        raise ValueError(f"the tables have different headers: {[table['header'] for table in tables]}")
    rows = [row for table in tables for row in table["rows"]]
    if row_names:
        by_name = {row[0]: row for row in rows}
        rows = [by_name[name] for name in row_names]
    lines = [header, ["---"] * len(header), *rows]
    if columns:
        lines = [[line[column - 1] for column in columns] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(page: str, tables: dict[str, ResultTable]) -> str:
    """The text of a page with its tables replaced by those of the results."""

    def replace(block: re.Match[str]) -> str:
        marker, names, row_names, columns, end = block.groups(default="")
        shown = to_markdown([tables[name] for name in names.split()], row_names.split(), [*map(int, columns.split())])
        return f"{marker}\n{shown}\n{end}"

    return BLOCK.sub(replace, page)


def main() -> None:
    """Fill the pages."""
    tables = read_tables()
    for page in (
        ROOT / "README.md",
        ROOT / "gliclass_rerank" / "bundled" / "MODEL_CARD.md",
        *ROOT.glob("docs/**/*.md"),
    ):
        page.write_text(fill(page.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
