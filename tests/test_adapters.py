"""What every adapter promises, stated once and held for all three frameworks."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import LazyReranker
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
        found = harness.run(harness.make(**FP32, **options), query, harness.wrap(items))
        return [harness.unwrap(f) for f in found]

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
    found = rank(ITEMS)
    assert {(i.id, i.text, i.metadata["source"]) for i in found} == {
        (i.id, i.text, i.metadata["source"]) for i in ITEMS if i.metadata
    }
    assert found[0].id == "b"
    assert all(type(item.score) is float and 0 <= item.score <= 1 for item in found)


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
    found = rank([Item("same", name) for name in "xyz"])
    assert [item.id for item in found] == ["x", "y", "z"]
    assert len({item.score for item in found}) == 1


def test_nothing_in_nothing_out_and_no_model_is_loaded_for_it(harness: Any) -> None:
    assert harness.run(harness.make(model="no/such/model"), QUERY, []) == []


def test_empty_and_missing_texts_are_ranked_alike(rank: Any) -> None:
    found = rank([ITEMS[1], Item("", "empty"), Item(None, "none")])
    scores = {item.id: item.score for item in found}
    assert set(scores) == {"b", "empty", "none"} and scores["empty"] == scores["none"]


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
        ({"fusion": "best"}, ValueError, "fusion"),
        ({"facets": [" "]}, ValueError, r"facets\[0\] is ' '"),
        ({"facets": {"is new": 2}}, ValueError, r"facets\['is new'\] is 2"),
        ({"facets": {"is new": True}}, TypeError, r"facets\['is new'\] is True"),
        ({"facets": {"is new": None}}, TypeError, r"facets\['is new'\] is None"),
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
    found = [each.unwrap(f) for f in each.run(adapter, QUERY, each.wrap(items))]
    assert sorted((item.id, item.text) for item in found) == sorted((item.id, item.text) for item in items)


def test_threads_get_what_one_alone_gets(harness: Any) -> None:
    adapter = harness.make(**FP32)
    alone = [harness.unwrap(f) for f in harness.run(adapter, QUERY, harness.wrap(ITEMS))]
    results: list[Any] = []

    def work() -> None:
        results.append([harness.unwrap(f) for f in harness.run(adapter, QUERY, harness.wrap(ITEMS))])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 8


def test_async_gives_the_same_and_does_not_block_the_loop(harness: Any) -> None:
    adapter = harness.make(**FP32)
    many = [Item(f"passage {i} " * 40, str(i)) for i in range(40)]

    async def run() -> tuple[list[Any], int]:
        task = asyncio.ensure_future(harness.arun(adapter, QUERY, harness.wrap(many)))
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return await task, turns

    found, turns = asyncio.run(run())
    assert turns > 50  # a blocked loop would turn once or twice
    assert [harness.unwrap(f) for f in found] == [
        harness.unwrap(f) for f in harness.run(adapter, QUERY, harness.wrap(many))
    ]


def test_a_ready_reranker_can_be_given(harness: Any, bundled: GLiClassReranker) -> None:
    found = harness.run(harness.make(model=bundled), QUERY, harness.wrap(ITEMS))
    scores = sorted(bundled.score(QUERY, [item.text or "" for item in ITEMS]), reverse=True)
    assert [harness.unwrap(f).score for f in found] == scores
    with pytest.raises(ValueError, match="ready GLiClassReranker"):
        harness.make(model=bundled, max_length=64)


def test_max_length_reaches_the_model(rank: Any) -> None:
    long = [Item("nothing " * 60 + "Leaves turn light into sugar.", "a"), Item("nothing", "b")]
    assert {item.id: item.score for item in rank(long)} != {item.id: item.score for item in rank(long, max_length=40)}


@pytest.mark.parametrize("options", [{}, {"fusion": "mean"}, {"fusion": "rrf", "together": True}])
def test_several_queries_are_fused(harness: Any, bundled: GLiClassReranker, options: dict[str, Any]) -> None:
    queries = [QUERY, "Where is sugar sold?", "What did the market do?"]
    found = harness.run(harness.make(**FP32, **options), queries, harness.wrap(ITEMS))
    expected = bundled.rank(queries, [item.text or "" for item in ITEMS], **options)
    assert [(harness.unwrap(f).text, harness.unwrap(f).score) for f in found] == [(h.text, h.score) for h in expected]


def test_an_empty_query_among_several_is_refused(harness: Any) -> None:
    with pytest.raises(ValueError, match=r"\[1\] is ''"):
        harness.run(harness.make(**FP32), [QUERY, ""], harness.wrap(ITEMS))


def test_facets_come_in_the_metadata_and_can_filter(harness: Any, rank: Any, bundled: GLiClassReranker) -> None:
    facets = ["is about trade", "is about plants"]
    expected = {hit.index: hit.facets for hit in bundled.rank(QUERY, [i.text or "" for i in ITEMS], facets=facets)}
    found = {item.id: item.metadata for item in rank(ITEMS, facets=facets)}
    for index, item in enumerate(ITEMS):
        assert found[item.id] == {**(item.metadata or {}), "relevance_facets": expected[index]}
    hits = bundled.rank(QUERY, [i.text or "" for i in ITEMS], facets=facets[:1])
    lowest = sorted(hit.facets[facets[0]] for hit in hits)[1] - 1e-5
    kept = {item.id for item in rank(ITEMS, facets={facets[0]: lowest})}
    assert kept == {ITEMS[hit.index].id for hit in hits if hit.facets[facets[0]] >= lowest}
    assert 0 < len(kept) < len(ITEMS)


def test_what_an_earlier_reranking_found_is_replaced(harness: Any) -> None:
    with_facets, without = harness.make(**FP32, facets=["is about trade"]), harness.make(**FP32)
    once = harness.run(with_facets, QUERY, harness.wrap(ITEMS))
    found = {item.id: item for item in map(harness.unwrap, once)}
    for adapter, expected in ((with_facets, found), (without, {i.id: i.metadata for i in ITEMS})):
        for item in map(harness.unwrap, harness.run(adapter, QUERY, once)):
            assert (item if adapter is with_facets else item.metadata) == expected[item.id]


def test_facets_are_the_adapter_s_own_and_can_be_any_iterable(harness: Any) -> None:
    facets = ["is about trade"]
    given = harness.make(**FP32, facets=facets)
    facets.append(" ")
    drawn = harness.make(**FP32, facets=(facet for facet in ("is about trade",)))
    for adapter in (given, drawn):
        found = harness.unwrap(harness.run(adapter, QUERY, harness.wrap(ITEMS))[0])
        assert list(found.metadata["relevance_facets"]) == ["is about trade"]


def test_of_long_texts_the_best_window_s_place_comes_in_the_metadata(rank: Any, bundled: GLiClassReranker) -> None:
    filler = "The council met on Monday and spoke about the price of coal. " * 40
    long = f"{filler}{ITEMS[1].text} {filler}"
    found = {item.id: item for item in rank([ITEMS[0], Item(long, "long")], long_passages="windows")}
    assert found["a"].metadata == ITEMS[0].metadata
    start, end = found["long"].metadata["relevance_span"]
    assert (ITEMS[1].text or "") in long[start:end] and end - start < len(long) / 3
    assert found["long"].score == pytest.approx(bundled.score(QUERY, [long[start:end]])[0], abs=1e-5)


def test_the_place_of_an_earlier_window_does_not_stay(rank: Any) -> None:
    [found] = rank([Item("Sugar.", "a", metadata={"relevance_span": [3, 9], "page": 2})])
    assert found.metadata == {"page": 2}


def test_findings_can_be_saved_as_json(rank: Any) -> None:
    items = [Item(f"{ITEMS[1].text} " * 100, "long")]
    [found] = rank(items, facets=["is about plants"], long_passages="windows")
    assert set(json.loads(json.dumps(found.metadata))) == {"relevance_facets", "relevance_span"}


def test_pickled_it_is_the_same_adapter_without_the_weights(harness: Any) -> None:
    adapter = harness.make(**FP32, score_threshold=0.01)
    expected = [harness.unwrap(f) for f in harness.run(adapter, QUERY, harness.wrap(ITEMS))]
    packed = pickle.dumps(adapter)
    assert len(packed) < 20_000
    again = pickle.loads(packed)
    assert [harness.unwrap(f) for f in harness.run(again, QUERY, harness.wrap(ITEMS))] == expected


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


def test_all_three_frameworks_share_one_set_of_weights() -> None:
    adapters = [harness.make(**FP32) for harness in HARNESSES]
    for harness, adapter in zip(HARNESSES, adapters, strict=True):
        harness.run(adapter, QUERY, harness.wrap(ITEMS))
    assert len({id(adapter._reranker.load().engine.model) for adapter in adapters}) == 1


def test_making_an_adapter_loads_nothing(harness: Any) -> None:
    code = (
        "import sys; from tests.adapter_harnesses import HARNESSES;"
        f"[h] = [h for h in HARNESSES if h.name == {harness.name!r}]; h.make(); "
        "assert 'gliclass_rerank.engine.scorer' not in sys.modules and 'gliclass_rerank.engine.checkpoint' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_without_its_framework_the_import_names_the_extra(harness: Any) -> None:
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
    assert f"pip install 'gliclass-rerank[{harness.extra}]'" in done.stdout


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
