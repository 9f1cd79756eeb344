from __future__ import annotations

import pytest

from benchmarks.tables import PAGES, fill


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_results(page) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- table: " in text and fill(text) == text  # python -m benchmarks.tables
