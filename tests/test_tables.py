"""Every figure in a page's table is the figure of a result file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- table: ([\w ]+?)(?:; rows ([^;]+?))?(?:; columns ([\d ]+?))? -->(.*?)<!-- end -->", re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "gliclass_rerank" / "bundled" / "MODEL_CARD.md", *ROOT.glob("docs/**/*.md")]
BLOCKS = [
    pytest.param(*(group.split() for group in block.groups("")[:3]), block[4], id=f"{page.stem}: {block[1]}")
    for page in PAGES
    for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
]


def read_tables() -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        own = record.get("tables", {}) | ({path.stem: record["table"]} if "table" in record else {})
        assert not own.keys() & tables.keys(), f"{path.name} repeats the name of another result's table"
        tables |= own
    return tables


def test_pages_show_tables() -> None:
    assert BLOCKS


def test_every_marker_of_a_table_is_understood() -> None:
    assert sum(page.read_text(encoding="utf-8").count("<!-- table: ") for page in PAGES) == len(BLOCKS)


@pytest.mark.parametrize(("names", "row_names", "columns", "block"), BLOCKS)
def test_a_page_s_table_is_that_of_the_results(
    names: list[str], row_names: list[str], columns: list[str], block: str
) -> None:
    tables = read_tables()
    rows = [row for name in names for row in tables[name]["rows"]]
    expected = [tables[names[0]]["header"], ["---"] * len(tables[names[0]]["header"]), *rows]
    if row_names:
        expected = [*expected[:2], *(row for name in row_names for row in rows if row[0] == name)]
    if columns:
        expected = [[line[int(column) - 1] for column in columns] for line in expected]
    cells = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in block.strip().splitlines()]
    assert cells == expected, "run: python -m benchmarks.tables"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.name)
def test_every_result_carries_its_tables(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    tables = [*record.get("tables", {}).values(), *([record["table"]] if "table" in record else [])]
    assert tables
    for table in tables:
        assert {len(row) for row in table["rows"]} == {len(table["header"])}
