"""The page that ``eval --report`` writes: models side by side, a row for each query."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gliclass_rerank.cli.app import app
from gliclass_rerank.evaluation import Collection, evaluate
from gliclass_rerank.evaluation.html_report import write_html_report
from tests.headless_browser import needs_browser, open_browser
from tests.small_collections import RUN, write

HOSTILE = '</script><script>document.title = "stolen"</script> [[DATA]] <b>&amp;'
PASSAGES = {f"p{i}": f"passage {i}" for i in range(7)} | {"long": "word " * 400, "hostile": HOSTILE}
COLLECTION = Collection(
    "tea & <cake>",
    "as given",
    {"better": "Which is last?", "worse": f"Which is first? {HOSTILE}"},
    PASSAGES,
    {"better": list(PASSAGES), "worse": list(PASSAGES)},
    {"better": {"hostile": 1}, "worse": {"p0": 2, "p1": 0}},
)


def backwards(query: str, passages: list[str]) -> list[float]:
    return [place / 10 for place in range(len(passages))]


def forwards(query: str, passages: list[str]) -> list[float]:
    return [1 - score for score in backwards(query, passages)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    results = {"backwards": [evaluate(COLLECTION, backwards)], "[[TITLE]]": [evaluate(COLLECTION, forwards)]}
    write_html_report([COLLECTION], results, path, title="eval <tea>")
    return path


def read_data(page: Path) -> dict[str, Any]:
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    return json.loads(data)


def test_each_query_has_the_first_five_passages_of_the_first_stage_and_of_each_model(page: Path) -> None:
    data = read_data(page)
    assert data["models"] == ["backwards", "[[TITLE]]"]
    first, second = data["queries"]
    assert [row["query"] for row in (first, second)] == list(COLLECTION.queries.values())
    assert first["orders"] == [
        [f"0/{i}" for i in order] for order in (list(PASSAGES)[:5], list(PASSAGES)[:-6:-1], list(PASSAGES)[:5])
    ]
    assert first["scores"] == [[0.8, 0.7, 0.6, 0.5, 0.4], [1.0, 0.9, 0.8, 0.7, 0.6]]
    assert first["values"] == pytest.approx([0.3010, 1.0, 0.3010], abs=1e-4)  # 1 / log2(10) in the ninth place
    assert second["values"] == pytest.approx([1.0, 0.3010, 1.0], abs=1e-4)
    assert (first["relevant"], second["relevant"]) == (["0/hostile"], ["0/p0"])


def test_passages_are_given_once_and_shortened(page: Path) -> None:
    passages = read_data(page)["passages"]
    assert passages["0/p0"] == "passage 0" and passages["0/hostile"] == HOSTILE
    assert len(passages["0/long"]) < 750 and passages["0/long"].endswith(" …")


def test_the_page_loads_nothing_and_no_text_becomes_markup(page: Path) -> None:
    html = page.read_text("utf-8")
    assert "eval &lt;tea&gt;" in html and html.count("<script") == 2
    assert not re.search(r"(?:src|href)=\"(?!data:)", html) and "default-src 'none'" in html


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("selenium.webdriver")
    with open_browser() as driver:
        yield driver


@needs_browser
def test_a_reader_sees_where_a_model_is_worse_than_the_first_stage(browser: Any, page: Path) -> None:
    def texts(selector: str) -> list[str]:
        return [element.text for element in browser.find_elements("css selector", selector)]

    browser.get(page.as_uri())
    assert browser.title == "eval <tea>"
    assert texts("h2") == list(COLLECTION.queries.values()) and texts("#count") == ["2 of 2 queries"]
    assert any("−0.699" in heading for heading in texts("h3"))
    assert HOSTILE in browser.find_element("css selector", "li.relevant").text
    browser.find_element("css selector", "#worse").click()
    assert texts("h2") == [COLLECTION.queries["worse"]] and texts("#count") == ["1 of 2 queries"]
    browser.find_element("css selector", "#model").send_keys("[[TITLE]]")
    assert texts("h2") == []
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_command_writes_it_beside_its_table(tmp_path: Path) -> None:
    folder = write(tmp_path / "small", run=RUN)
    result = CliRunner().invoke(app, ["eval", str(folder), "--report", str(tmp_path / "r.html")])
    assert result.exit_code == 0, result.output
    data = read_data(tmp_path / "r.html")
    assert data["models"] == ["bundled"] and len(data["queries"]) == 2
    wrong = CliRunner().invoke(app, ["eval", str(folder), "--report", str(tmp_path / "r.txt")])
    assert wrong.exit_code == 2 and "ends in .html" in wrong.output
