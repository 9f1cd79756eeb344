"""What every adapter promises of order, scores and documents: stated once and tested for all three frameworks."""

from __future__ import annotations

import asyncio
import copy
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import LazyReranker
from tests.adapter_harnesses import FP32, HARNESSES, ITEMS, QUERY, Item
from tests.written_corpus import QUESTIONS, TEXTS


@pytest.mark.slow
def test_order_and_scores_are_those_of_rank_on_the_written_corpus(
    harness: Any, rank: Any, bundled: GLiClassReranker
) -> None:
    items = [Item(text, str(i)) for i, text in enumerate(TEXTS)]
    for question in QUESTIONS[:2]:
        expected = [(str(hit.index), hit.score) for hit in bundled.rank(question, TEXTS, top_k=72)]
        assert [(item.id, item.score) for item in rank(items, question, **{harness.top: 72})] == expected


def test_ids_text_and_metadata_survive_and_scores_are_floats(rank: Any) -> None:
    results = rank(ITEMS)
    assert {(i.id, i.text, i.metadata["source"]) for i in results} == {
        (i.id, i.text, i.metadata["source"]) for i in ITEMS if i.metadata
    }
    assert results[0].id == "b"
    assert all(type(item.score) is float and 0 <= item.score <= 1 for item in results)


def test_the_input_is_not_mutated(harness: Any) -> None:
    given_items = harness.wrap(ITEMS)
    before = copy.deepcopy(given_items)
    harness.run(harness.make(**FP32), QUERY, given_items)
    assert given_items == before and [repr(g) for g in given_items] == [repr(b) for b in before]


def test_a_stale_score_is_replaced(harness: Any) -> None:
    adapter = harness.make(**FP32)
    once = harness.run(adapter, QUERY, harness.wrap(ITEMS))
    assert [harness.unwrap(i) for i in harness.run(adapter, QUERY, once)] == [harness.unwrap(i) for i in once]


def test_equal_texts_tie_and_keep_their_order(rank: Any) -> None:
    results = rank([Item("same", name) for name in "xyz"])
    assert [item.id for item in results] == ["x", "y", "z"]
    assert len({item.score for item in results}) == 1


def test_nothing_in_nothing_out_and_no_model_is_loaded_for_it(harness: Any) -> None:
    assert harness.run(harness.make(model="no/such/model"), QUERY, []) == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"top_k": 0}, ValueError),
        ({"top_k": "2"}, TypeError),
        ({"threshold": 2}, ValueError),
        ({"fusion": "best"}, ValueError),
        ({"facets": {"is new": 2}}, ValueError),
    ],
)
def test_a_wrong_argument_is_refused_also_without_texts(options: dict[str, Any], error: type[Exception]) -> None:
    for texts in ([], ["Tea is brewed."]):
        with pytest.raises(error, match=f"{next(iter(options))}.* is "):
            LazyReranker(**FP32).rank(QUERY, texts, **options)


def test_texts_with_nothing_to_read_come_last_with_score_0(rank: Any) -> None:
    results = rank([Item("", "empty"), Item(None, "none"), ITEMS[1]])
    assert [item.id for item in results] == ["b", "empty", "none"]
    assert [item.score for item in results[1:]] == [0.0, 0.0]


def test_threshold_keeps_what_reaches_it(rank: Any) -> None:
    scores = [item.score for item in rank(ITEMS)]
    assert [item.score for item in rank(ITEMS, score_threshold=scores[1])] == scores[:2]
    assert rank(ITEMS, score_threshold=0.0) == rank(ITEMS)
    assert rank(ITEMS, score_threshold=1.0) == []


def test_top_keeps_the_best(harness: Any, rank: Any) -> None:
    items = [*ITEMS, Item("Rain.", "d"), Item("Wind.", "e")]
    best = rank(items, **{harness.top: 5})
    assert rank(items, **{harness.top: 2}) == best[:2]
    assert rank(items, **{harness.top: 99}) == best
    assert len(rank(items)) == (5 if harness.name == "haystack" else 3)
    if harness.name != "haystack":
        assert rank(items, top_n=None) == best


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (2.5, TypeError)])
def test_a_wrong_top_is_refused_when_the_adapter_is_made(harness: Any, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{harness.top} is {value}"):
        harness.make(**{harness.top: value})


@pytest.mark.parametrize(("value", "error"), [(1.5, ValueError), (-0.1, ValueError), ("0.5", TypeError)])
def test_a_wrong_threshold_is_refused_when_the_adapter_is_made(
    harness: Any, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="score_threshold is"):
        harness.make(score_threshold=value)


@pytest.mark.parametrize("items", [ITEMS, []])
@pytest.mark.parametrize("query", ["", " \n", "\u200b"])
def test_an_empty_query_is_refused(harness: Any, query: str, items: list[Item]) -> None:
    with pytest.raises(ValueError, match="query is"):
        harness.run(harness.make(**FP32), query, harness.wrap(items))


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"max_length": True}, TypeError, "max_length is True"),
        ({"max_length": "64"}, TypeError, "max_length is '64'"),
        ({"max_length": 0}, ValueError, "max_length is 0"),
        ({"dtype": "float64"}, ValueError, "dtype"),
        ({"long_passages": "cut"}, ValueError, "long_passages"),
        ({"long_queries": "cut"}, ValueError, "long_queries"),
        ({"token_budget": 0}, ValueError, "token_budget is 0"),
        ({"token_budget": True}, TypeError, "token_budget is True"),
        ({"fusion": "best"}, ValueError, "fusion"),
        ({"facets": [" "]}, ValueError, r"facets\[0\] is ' '"),
        ({"facets": {"is new": 2}}, ValueError, r"facets\['is new'\] is 2"),
        ({"facets": {"is new": True}}, TypeError, r"facets\['is new'\] is True"),
        ({"facets": {"is new": None}}, TypeError, r"facets\['is new'\] is None"),
        ({"retrieval_weight": -1}, ValueError, "retrieval_weight is -1"),
        ({"retrieval_weight": True}, TypeError, "retrieval_weight is True"),
        ({"extract": "words"}, ValueError, "extract"),
        ({"extract_tokens": 0}, ValueError, "extract_tokens is 0"),
        ({"extract_tokens": None}, TypeError, "extract_tokens is None"),
        ({"model": 3}, (TypeError, ValueError), "model"),
    ],
)
def test_a_wrong_option_is_refused_when_the_adapter_is_made(
    harness: Any, option: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        harness.make(**option)


def test_an_unknown_option_is_refused(harness: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="topn"):
        harness.make(topn=3)


def test_a_missing_model_is_named_at_first_use(harness: Any, tmp_path: Path) -> None:
    adapter = harness.make(model=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="there is no folder"):
        harness.run(adapter, QUERY, harness.wrap(ITEMS))


@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=4))
@pytest.mark.parametrize("each", HARNESSES, ids=lambda harness: harness.name)
def test_any_text_is_ranked_and_comes_back_as_it_was(each: Any, texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    items = [Item(text, str(i)) for i, text in enumerate(texts)]
    adapter = each.make(**FP32, **{each.top: 10})
    results = [each.unwrap(result) for result in each.run(adapter, QUERY, each.wrap(items))]
    assert sorted((item.id, item.text) for item in results) == sorted((item.id, item.text) for item in items)


def test_threads_get_what_one_alone_gets(harness: Any) -> None:
    adapter = harness.make(**FP32)
    alone = [harness.unwrap(result) for result in harness.run(adapter, QUERY, harness.wrap(ITEMS))]
    results: list[Any] = []

    def work() -> None:
        results.append([harness.unwrap(result) for result in harness.run(adapter, QUERY, harness.wrap(ITEMS))])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 8


class Gate(list[Any]):
    """Documents that nobody can read before the gate is open."""

    def __init__(self, documents: list[Any], opened: threading.Event) -> None:
        super().__init__(documents)
        self.opened = opened

    def __iter__(self) -> Any:
        assert self.opened.wait(timeout=60), "the event loop is blocked"
        return super().__iter__()


def test_async_gives_the_same_and_does_not_block_the_loop(harness: Any) -> None:
    adapter, opened = harness.make(**FP32), threading.Event()

    async def run() -> list[Any]:
        task = asyncio.ensure_future(harness.arun(adapter, QUERY, Gate(harness.wrap(ITEMS), opened)))
        await asyncio.sleep(0)  # the task starts; a blocked loop would never open the gate
        opened.set()
        return list(await task)

    results = [harness.unwrap(result) for result in asyncio.run(run())]
    assert results == [harness.unwrap(result) for result in harness.run(adapter, QUERY, harness.wrap(ITEMS))]
