"""The promises of every adapter, stated once and tested for all three frameworks."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib
import json
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, create_model

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import LazyReranker
from gliclass_rerank.engine.loading import LoadedModel
from gliclass_rerank.optional import install_command
from tests.adapter_harnesses import HARNESSES, Item
from tests.written_corpus import QUESTIONS, TEXTS

QUERY = "How do plants make sugar?"
ITEMS = [
    Item("The stock market closed early on Friday.", "a", 3.5, {"source": "news"}),
    Item("Leaves turn light, water and air into sugar.", "b", 2.5, {"source": "book"}),
    Item("Sugar is sold in paper bags.", "c", 1.5, {"source": "shop"}),
]
FP32 = {"device": "cpu", "dtype": "float32"}
INTEGRATIONS = Path(__file__).parent.parent / "integrations"


@pytest.fixture(params=HARNESSES, ids=lambda harness: harness.name)
def harness(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def rank(harness: Any) -> Any:
    """Ranks items by an adapter with some options, and gives items back."""

    def run(items: list[Item], query: str = QUERY, **options: Any) -> list[Item]:
        results = harness.run(harness.make(**FP32, **options), query, harness.wrap(items))
        return [harness.unwrap(result) for result in results]

    return run


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


def test_a_ready_reranker_can_be_given(harness: Any, bundled: GLiClassReranker) -> None:
    results = harness.run(harness.make(model=bundled), QUERY, harness.wrap(ITEMS))
    scores = sorted(bundled.score(QUERY, [item.text or "" for item in ITEMS]), reverse=True)
    assert [harness.unwrap(result).score for result in results] == scores
    with pytest.raises(ValueError, match="ready GLiClassReranker"):
        harness.make(model=bundled, max_length=64)


def test_max_length_reaches_the_model(rank: Any) -> None:
    long = [Item("nothing " * 60 + "Leaves turn light into sugar.", "a"), Item("nothing", "b")]
    assert {item.id: item.score for item in rank(long)} != {item.id: item.score for item in rank(long, max_length=40)}


LONG = "The council met on Monday and spoke about the price of coal. " * 40


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


def test_pickled_it_is_the_same_adapter_without_the_weights(harness: Any) -> None:
    adapter = harness.make(**FP32, score_threshold=0.01)
    expected = [harness.unwrap(result) for result in harness.run(adapter, QUERY, harness.wrap(ITEMS))]
    packed = pickle.dumps(adapter)
    assert len(packed) < 20_000
    again = pickle.loads(packed)
    assert [harness.unwrap(result) for result in harness.run(again, QUERY, harness.wrap(ITEMS))] == expected


def test_adapters_of_one_checkpoint_share_its_weights(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint_folder(), tmp_path / "loaded by nobody yet")
    lazies = [LazyReranker(folder, **FP32, max_length=length) for length in (None, 64, 128)]
    barrier, loaded = threading.Barrier(3), []

    def load(lazy: LazyReranker) -> None:
        barrier.wait()
        loaded.append(lazy.load())

    threads = [threading.Thread(target=load, args=(lazy,)) for lazy in lazies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(reranker.engine.model) for reranker in loaded}) == 1
    assert len({reranker.max_length for reranker in loaded}) == 3
    assert LazyReranker(folder, device="cpu", dtype="bfloat16").load().engine.model is not loaded[0].engine.model


def test_all_three_frameworks_share_one_set_of_weights(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = str(shutil.copytree(checkpoint_folder(), tmp_path / "new"))
    adapters = [harness.make(**FP32, model=folder) for harness in HARNESSES]
    for harness, adapter in zip(HARNESSES, adapters, strict=True):
        harness.run(adapter, QUERY, harness.wrap(ITEMS))
    gc.collect()
    loaded = [item for item in gc.get_objects() if type(item) is LoadedModel]
    assert [model.checkpoint.name for model in loaded].count(folder) == 1


def test_making_an_adapter_loads_nothing(harness: Any) -> None:
    code = (
        "import sys; from tests.adapter_harnesses import HARNESSES;"
        f"[h] = [h for h in HARNESSES if h.name == {harness.name!r}]; h.make(); "
        "assert 'gliclass_rerank.engine.scorer' not in sys.modules and 'gliclass_rerank.engine.checkpoint' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_without_its_framework_the_import_names_the_package_to_install(harness: Any) -> None:
    root = harness.framework.split(".")[0]
    # An empty finder for the framework's own modules stands for its absence.
    code = (
        "import sys, importlib.abc\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {harness.framework!r} or name == {root!r} != 'llama_index':\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import gliclass_rerank\n"
        f"try:\n    import {harness.module}\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"{harness.framework} is not installed. Run: pip install {harness.package}" in done.stdout


def test_commands_that_install_an_extra_name_the_packages_of_pyproject() -> None:
    project = tomllib.loads((INTEGRATIONS.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def packages(extra: str) -> set[str]:
        names: set[str] = set()
        for requirement in extras[extra]:
            inner = re.fullmatch(r"gliclass-rerank\[(.*)\]", requirement)
            names |= packages(inner[1]) if inner else {re.sub(r">=[0-9.]+,?", "", requirement)}
        return names

    for extra in extras.keys() - {"all"}:
        command = shlex.split(install_command(extra))
        assert command[:2] == ["pip", "install"] and set(command[2:]) == packages(extra)


def test_the_import_path_is_a_package_of_ours_in_a_namespace_of_theirs(harness: Any) -> None:
    module = importlib.import_module(harness.module)
    assert module.__file__ and INTEGRATIONS in Path(module.__file__).parents
    assert (Path(module.__file__).parent / "py.typed").is_file()


def test_namespace_folders_hold_no_init() -> None:
    inits = {path.parent.relative_to(INTEGRATIONS).as_posix() for path in INTEGRATIONS.rglob("__init__.py")}
    assert inits == {
        "langchain_gliclass_rerank",
        "llama_index/postprocessor/gliclass_rerank",
        "haystack_integrations/components/rankers/gliclass_rerank",
    }
