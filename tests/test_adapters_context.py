"""What every adapter promises about the retriever's order and about extracted sentences."""

from __future__ import annotations

import asyncio
import copy
import json
import math
from typing import Any

import pytest

from gliclass_rerank import GLiClassReranker, compress_context
from tests.adapter_harnesses import HARNESSES, Item

QUERY = "How do plants make sugar?"
FP32 = {"device": "cpu", "dtype": "float32"}
ITEMS = [
    Item("The market closed early. Sugar rose by 2 %. It was a Friday.", "news", 3.5, {"page": 1}),
    Item(
        "Plants need light. Leaves turn light, water and air into sugar. They do so by day.", "book", 2.5, {"page": 2}
    ),
    Item("Sugar is sold in bags.", "shop", 1.5, {"page": 3}),
]
TEXTS = [item.text or "" for item in ITEMS]
WITHOUT_METADATA = [Item(item.text, item.id, item.score) for item in ITEMS]  # LlamaIndex lets the model read metadata


@pytest.fixture(params=HARNESSES, ids=lambda harness: harness.name)
def harness(request: pytest.FixtureRequest) -> Any:
    return request.param


def run(harness: Any, items: list[Item], query: str | list[str] = QUERY, **options: Any) -> list[Item]:
    results = harness.run(harness.make(**FP32, **options), query, harness.wrap(items))
    return [harness.unwrap(result) for result in results]


def test_the_retriever_s_order_counts_as_much_as_it_is_told_to(harness: Any, bundled: GLiClassReranker) -> None:
    scores = dict(zip((item.id for item in ITEMS), bundled.score(QUERY, TEXTS), strict=True))
    for weight in (0.0, 0.5, 100.0):
        expected = [ITEMS[hit.index].id for hit in bundled.rank(QUERY, TEXTS, retrieval_weight=weight)]
        results = run(harness, WITHOUT_METADATA, retrieval_weight=weight)
        assert [item.id for item in results] == expected
        assert {item.id: item.score for item in results} == pytest.approx(scores, abs=1e-6)
    assert expected == [item.id for item in ITEMS]


@pytest.mark.parametrize("query", [QUERY, [QUERY, "Where is sugar sold?"]], ids=["one query", "two queries"])
def test_extracted_texts_are_those_of_compress_context(harness: Any, query: Any, bundled: GLiClassReranker) -> None:
    expected = compress_context(query, TEXTS, token_budget=20, reranker=bundled)
    results = run(harness, WITHOUT_METADATA, query, extract="sentences", extract_tokens=20)
    assert [(item.id, item.text) for item in results] == [(ITEMS[hit.index].id, hit.text) for hit in expected]
    for item, hit in zip(results, expected, strict=True):
        spans = [[span.start, span.end] for span in hit.spans]
        assert item.metadata == {"relevance_spans": spans}
        assert item.score == pytest.approx(hit.score, abs=1e-6)


def test_extracted_spans_are_places_in_the_whole_text_and_json(harness: Any) -> None:
    [result] = run(harness, ITEMS[1:2], extract="sentences", extract_tokens=11)
    [[start, end]] = json.loads(json.dumps(result.metadata))["relevance_spans"]
    assert TEXTS[1][start:end] == result.text


def test_extraction_changes_no_input(harness: Any) -> None:
    wrapped = harness.wrap(ITEMS)
    before = copy.deepcopy(wrapped)
    harness.run(harness.make(**FP32, extract="sentences", extract_tokens=12), QUERY, wrapped)
    assert wrapped == before and [repr(item) for item in wrapped] == [repr(item) for item in before]


def test_spans_of_an_earlier_extraction_are_replaced(harness: Any) -> None:
    stale = [Item("Leaves make sugar.", "a", metadata={"relevance_spans": [[7, 9]], "page": 2})]
    assert run(harness, stale)[0].metadata == {"page": 2}
    assert run(harness, stale, extract="sentences")[0].metadata == {"page": 2, "relevance_spans": [[0, 18]]}


def test_extraction_reads_all_of_a_long_text_in_windows(harness: Any) -> None:
    filler = "The council met on Monday and spoke about the price of coal. " * 40
    long = Item(f"{filler}Leaves turn light, water and air into sugar. {filler}", "long")
    [result] = run(harness, [long], long_passages="windows", extract="sentences", extract_tokens=11)
    assert result.text == "Leaves turn light, water and air into sugar."
    assert result.metadata is not None and result.metadata.keys() == {"relevance_spans"}


def test_extraction_keeps_facets_and_thresholds(harness: Any) -> None:
    [result] = run(harness, ITEMS, extract="sentences", facets=["is about plants"], **{harness.top: 1})
    assert result.id == "book" and result.metadata is not None
    assert result.metadata.keys() == {"page", "relevance_facets", "relevance_spans"}
    assert run(harness, ITEMS, extract="sentences", score_threshold=1.0) == []


def test_extraction_of_nothing_is_nothing_and_loads_no_model(harness: Any) -> None:
    assert harness.run(harness.make(model="no/such/model", extract="sentences"), QUERY, []) == []
    assert run(harness, [Item("", "empty"), Item(None, "none")], extract="sentences") == []


def test_extraction_in_async_is_the_same(harness: Any) -> None:
    adapter = harness.make(**FP32, extract="sentences", extract_tokens=20)
    results = asyncio.run(harness.arun(adapter, QUERY, harness.wrap(ITEMS)))
    assert [harness.unwrap(result) for result in results] == run(harness, ITEMS, extract="sentences", extract_tokens=20)


def test_the_budget_is_that_of_all_texts_together(harness: Any) -> None:
    for budget in (1, 5, 17, 40, 1000):
        results = run(harness, ITEMS, extract="sentences", extract_tokens=budget)
        assert sum(math.ceil(len(item.text or "") / 4) for item in results) <= budget
