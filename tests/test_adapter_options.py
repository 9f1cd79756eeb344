"""The options of every adapter: given, changed later, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, create_model

from gliclass_rerank import GLiClassReranker
from tests.adapter_harnesses import FP32, HARNESSES, ITEMS, LONG, QUERY, Item


def test_a_ready_reranker_can_be_given(harness: Any, bundled: GLiClassReranker) -> None:
    results = harness.run(harness.make(model=bundled), QUERY, harness.wrap(ITEMS))
    scores = sorted(bundled.score(QUERY, [item.text or "" for item in ITEMS]), reverse=True)
    assert [harness.unwrap(result).score for result in results] == scores
    with pytest.raises(ValueError, match="ready GLiClassReranker"):
        harness.make(model=bundled, max_length=64)


def test_max_length_reaches_the_model(rank: Any) -> None:
    long = [Item("nothing " * 60 + "Leaves turn light into sugar.", "a"), Item("nothing", "b")]
    assert {item.id: item.score for item in rank(long)} != {item.id: item.score for item in rank(long, max_length=40)}


def changed_options(top: str) -> list[dict[str, Any]]:
    return [
        {"max_length": 64},
        {"long_passages": "windows"},
        {"max_length": 64, "token_budget": 64},
        {"facets": ["is about coal"]},
        {"score_threshold": 0.001},
        {top: 1},
        {"dtype": "bfloat16"},
        {"retrieval_weight": 100.0},
        {"extract": "sentences", "extract_tokens": 12},
    ]


@pytest.mark.parametrize("number", range(9))
def test_an_option_that_was_changed_counts_at_the_next_call(harness: Any, number: int) -> None:
    options = changed_options(harness.top)[number]
    items = [*ITEMS[:2], Item(LONG, "long")]
    expected = [harness.unwrap(r) for r in harness.run(harness.make(**{**FP32, **options}), QUERY, harness.wrap(items))]
    adapter = harness.make(**FP32)
    before = [harness.unwrap(result) for result in harness.run(adapter, QUERY, harness.wrap(items))]
    for copied in harness.changed_copies(adapter, options):
        assert [harness.unwrap(r) for r in harness.run(copied, QUERY, harness.wrap(items))] == expected
        assert [harness.unwrap(r) for r in harness.run(adapter, QUERY, harness.wrap(items))] == before
    for name, value in options.items():
        setattr(adapter, name, value)
    assert [harness.unwrap(result) for result in harness.run(adapter, QUERY, harness.wrap(items))] == expected
    assert before != expected


def test_a_wrong_value_is_refused_when_it_is_set_or_used(harness: Any) -> None:
    for name, value in (("max_length", 0), ("token_budget", -1), (harness.top, 0), ("score_threshold", 2)):
        adapter = harness.make(**FP32)
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            setattr(adapter, name, value)
            harness.run(adapter, QUERY, harness.wrap(ITEMS))


def test_another_model_is_used_at_the_next_call(harness: Any, checkpoint_folder: Callable[..., Path]) -> None:
    other = str(checkpoint_folder())
    expected = [harness.unwrap(r) for r in harness.run(harness.make(**FP32, model=other), QUERY, harness.wrap(ITEMS))]
    adapter = harness.make(**FP32)
    harness.run(adapter, QUERY, harness.wrap(ITEMS))
    for copied in harness.changed_copies(adapter, {"model": other}):
        assert [harness.unwrap(result) for result in harness.run(copied, QUERY, harness.wrap(ITEMS))] == expected
    adapter.model = other
    assert [harness.unwrap(result) for result in harness.run(adapter, QUERY, harness.wrap(ITEMS))] == expected


class Other(BaseModel):
    page: int = 0


@pytest.fixture(params=[h for h in HARNESSES if h.name != "haystack"], ids=lambda harness: harness.name)
def step(request: pytest.FixtureRequest) -> Any:
    """A pydantic model whose field holds an adapter or something else."""
    return create_model("Step", part=(type(request.param.make()) | Other, ...))


@pytest.mark.parametrize("value", [Other(), {"page": 2}])
def test_pydantic_goes_on_to_another_type_of_a_union(step: Any, value: Any) -> None:
    assert isinstance(step(part=value).part, Other)


def test_pydantic_can_hold_and_make_an_adapter(step: Any) -> None:
    adapter = step(part={"top_n": 2}).part
    assert adapter.top_n == 2 and step(part=adapter).part is adapter


@pytest.mark.parametrize("value", [3, "tea", None, [1]])
def test_pydantic_refuses_a_value_that_is_no_adapter(step: Any, value: Any) -> None:
    with pytest.raises(ValidationError):
        step(part=value)


def test_a_text_that_was_cut_is_marked_and_no_other(rank: Any) -> None:
    items = [ITEMS[0], Item(LONG, "long"), Item("Sugar.", "stale", metadata={"relevance_truncated": True, "page": 2})]
    metadata = {item.id: item.metadata for item in rank(items, max_length=64)}
    assert metadata == {"a": {"source": "news"}, "long": {"relevance_truncated": True}, "stale": {"page": 2}}
    assert {item.id: item.metadata for item in rank(items, max_length=64, long_passages="windows")}["long"].keys() == {
        "relevance_span"
    }


def test_a_long_query_is_refused_or_cut_as_the_option_says(rank: Any, harness: Any) -> None:
    with pytest.raises(ValueError, match="max_length 64"):
        rank(ITEMS, QUERY * 30, max_length=64)
    results = rank(ITEMS, QUERY * 30, max_length=64, long_queries="truncate")
    assert len(results) == 3 and all(item.metadata["relevance_truncated"] is True for item in results)


def test_a_token_budget_leaves_scores_as_they_are(rank: Any) -> None:
    scores = {item.id: item.score for item in rank(ITEMS)}
    assert {item.id: item.score for item in rank(ITEMS, token_budget=16)} == pytest.approx(scores, abs=1e-5)


class Shouting(str):
    """A str that changes what is joined to it, as ``markupsafe.Markup`` does."""

    def __add__(self, other: str) -> str:
        return str(self) + other.upper()

    def __radd__(self, other: str) -> str:
        return other.upper() + str(self)

    def __format__(self, spec: str) -> str:
        return str.__str__(self).upper()

    def join(self, items: Any) -> str:
        return str.join(self, items).upper()


def test_a_subclass_of_str_scores_as_a_plain_str(harness: Any) -> None:
    plain = harness.make(**FP32)
    loud_items = [Item(Shouting(item.text), item.id, item.score, item.metadata) for item in ITEMS]
    expected = [harness.unwrap(result) for result in harness.run(plain, QUERY, harness.wrap(ITEMS))]
    loud = harness.make(**FP32)
    assert [harness.unwrap(r) for r in harness.run(loud, Shouting(QUERY), harness.wrap(loud_items))] == expected


@pytest.mark.parametrize("documents", [{"a": "Tea."}, ["Tea."], [None]])
def test_anything_but_the_framework_s_documents_is_refused_by_index(harness: Any, documents: Any) -> None:
    with pytest.raises(TypeError, match=r"\[0\] is of type"):
        harness.run(harness.make(**FP32), QUERY, documents)


@pytest.mark.parametrize("options", [{}, {"fusion": "mean"}, {"fusion": "rrf", "together": True}])
def test_several_queries_are_fused(harness: Any, bundled: GLiClassReranker, options: dict[str, Any]) -> None:
    queries = [QUERY, "Where is sugar sold?", "What did the market do?"]
    results = harness.run(harness.make(**FP32, **options), queries, harness.wrap(ITEMS))
    expected = bundled.rank(queries, [item.text or "" for item in ITEMS], **options)
    assert [(harness.unwrap(result).text, harness.unwrap(result).score) for result in results] == [
        (h.text, h.score) for h in expected
    ]


def test_an_empty_query_among_several_is_refused(harness: Any) -> None:
    with pytest.raises(ValueError, match=r"\[1\] is ''"):
        harness.run(harness.make(**FP32), [QUERY, ""], harness.wrap(ITEMS))


def test_facets_come_in_the_metadata_and_can_filter(harness: Any, rank: Any, bundled: GLiClassReranker) -> None:
    facets = ["is about trade", "is about plants"]
    expected = {hit.index: hit.facets for hit in bundled.rank(QUERY, [i.text or "" for i in ITEMS], facets=facets)}
    results = {item.id: item.metadata for item in rank(ITEMS, facets=facets)}
    for index, item in enumerate(ITEMS):
        assert results[item.id] == {**(item.metadata or {}), "relevance_facets": expected[index]}
    hits = bundled.rank(QUERY, [i.text or "" for i in ITEMS], facets=facets[:1])
    threshold = sorted(hit.facets[facets[0]] for hit in hits)[1] - 1e-5
    ids = {item.id for item in rank(ITEMS, facets={facets[0]: threshold})}
    assert ids == {ITEMS[hit.index].id for hit in hits if hit.facets[facets[0]] >= threshold}
    assert 0 < len(ids) < len(ITEMS)


def test_what_an_earlier_reranking_wrote_is_replaced(harness: Any) -> None:
    with_facets, without = harness.make(**FP32, facets=["is about trade"]), harness.make(**FP32)
    once = harness.run(with_facets, QUERY, harness.wrap(ITEMS))
    results = {item.id: item for item in map(harness.unwrap, once)}
    for adapter, expected in ((with_facets, results), (without, {i.id: i.metadata for i in ITEMS})):
        for item in map(harness.unwrap, harness.run(adapter, QUERY, once)):
            assert (item if adapter is with_facets else item.metadata) == expected[item.id]


def test_facets_are_the_adapter_s_own_and_can_be_any_iterable(harness: Any) -> None:
    facets = ["is about trade"]
    given = harness.make(**FP32, facets=facets)
    facets.append(" ")
    drawn = harness.make(**FP32, facets=(facet for facet in ("is about trade",)))
    for adapter in (given, drawn):
        result = harness.unwrap(harness.run(adapter, QUERY, harness.wrap(ITEMS))[0])
        assert list(result.metadata["relevance_facets"]) == ["is about trade"]


def test_of_long_texts_the_best_window_s_place_comes_in_the_metadata(rank: Any, bundled: GLiClassReranker) -> None:
    filler = "The council met on Monday and spoke about the price of coal. " * 40
    long = f"{filler}{ITEMS[1].text} {filler}"
    results = {item.id: item for item in rank([ITEMS[0], Item(long, "long")], long_passages="windows")}
    assert results["a"].metadata == ITEMS[0].metadata
    start, end = results["long"].metadata["relevance_span"]
    assert (ITEMS[1].text or "") in long[start:end] and end - start < len(long) / 3
    assert results["long"].score == pytest.approx(bundled.score(QUERY, [long[start:end]])[0], abs=1e-5)


def test_the_place_of_an_earlier_window_does_not_stay(rank: Any) -> None:
    [result] = rank([Item("Sugar.", "a", metadata={"relevance_span": [3, 9], "page": 2})])
    assert result.metadata == {"page": 2}


def test_the_new_metadata_can_be_saved_as_json(rank: Any) -> None:
    items = [Item(f"{ITEMS[1].text} " * 100, "long")]
    [result] = rank(items, facets=["is about plants"], long_passages="windows")
    assert set(json.loads(json.dumps(result.metadata))) == {"relevance_facets", "relevance_span"}
