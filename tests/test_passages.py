"""All entry points read a passage in the same way, whatever else is in the call."""

from __future__ import annotations

import logging
import math
import threading
from collections import UserString
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker, ZeroShotClassifier, fill_context
from gliclass_rerank.engine.loading import LoadedModel
from gliclass_rerank.engine.passages import LabelledPassage, PassageScorer
from gliclass_rerank.probabilities import sigmoid

WORDS = [
    "bread",
    "rises",
    "because",
    "the",
    "yeast",
    "makes",
    "gas",
    "while",
    "a",
    "bicycle",
    "chain",
    "wants",
    "oil",
    "not",
    "grease",
    "and",
    "north",
    "is",
    "up",
]


def words(max_words: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).flatmap(
        lambda some: st.integers(1, max(1, max_words // len(some))).map(lambda times: " ".join(some * times))
    )


@cache
def reranker(long_passages: str, long_queries: str = "error") -> GLiClassReranker:
    return GLiClassReranker.from_pretrained(
        device="cpu", dtype="float32", max_length=96, long_passages=long_passages, long_queries=long_queries
    )


@settings(max_examples=25, deadline=None)
@given(
    queries=st.lists(words(30), min_size=1, max_size=3),
    passages=st.lists(st.one_of(words(250), st.just("")), min_size=1, max_size=4),
    long_passages=st.sampled_from(["truncate", "windows"]),
    facets=st.sampled_from([(), ("is about food",)]),
)
def test_every_entry_point_gives_a_pair_the_same_score(
    queries: list[str], passages: list[str], long_passages: str, facets: tuple[str, ...]
) -> None:
    model = reranker(long_passages)
    alone = np.array([[model.score(query, [passage])[0] for passage in passages] for query in queries])
    np.testing.assert_allclose(model.score_matrix(queries, passages), alone, atol=1e-5)
    np.testing.assert_allclose([model.score(query, passages) for query in queries], alone, atol=1e-5)
    pairs = [(query, passage) for passage in passages for query in queries]
    np.testing.assert_allclose(model.score_pairs(pairs), alone.T.ravel(), atol=1e-5)
    for hit in model.rank(queries, passages):
        assert hit.score == pytest.approx(alone[:, hit.index].max(), abs=1e-5)
    if facets:
        beside = {hit.index: hit for hit in model.rank(queries[0], passages, facets=facets)}
        for i, passage in enumerate(passages):
            [hit] = model.rank(queries[0], [passage], facets=facets)
            assert (hit.score, hit.span) == (pytest.approx(beside[i].score, abs=1e-5), beside[i].span)
            assert hit.facets == pytest.approx(beside[i].facets, abs=1e-5)


def test_a_long_query_beside_a_short_one_does_not_change_its_windows() -> None:
    windows = GLiClassReranker.from_pretrained(device="cpu", dtype="float32", long_passages="windows")
    passage = "The council met on Monday and spoke about the roads, the weather and the price of coal. " * 20
    short, long = "what did the council discuss?", "the price of coal and of the roads " * 26
    alone = windows.score_matrix([short], [passage])
    np.testing.assert_allclose(windows.score_matrix([short, long], [passage])[:1], alone, atol=1e-6)


def test_a_score_is_the_sigmoid_of_the_logit(bundled: GLiClassReranker) -> None:
    for hit in bundled.rank("how does bread rise?", ["Bread rises because yeast makes gas.", "Rain falls.", ""]):
        assert hit.score == sigmoid(hit.logit)
    assert sigmoid(40.0) == sigmoid(41.0) == 1.0  # as logits they differ


# Texts come in by one door


class Markup(str):
    """As markupsafe's: it escapes whatever is joined to it."""

    def __radd__(self, other: str) -> Markup:
        return Markup(other.replace("<", "&lt;") + str(self))

    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize("convert", [Markup, np.str_])
def test_a_subclass_of_str_is_read_as_the_plain_str(convert: Any, bundled: GLiClassReranker) -> None:
    query, passage = "why does bread rise?", "Bread rises because yeast makes gas & <b>air</b>."
    expected = bundled.rank(query, [passage])
    assert bundled.rank(convert(query), [convert(passage)]) == expected
    [hit] = bundled.rank(convert(query), [convert(passage)])
    assert type(hit.text) is str
    assert bundled.score_pairs([(convert(query), convert(passage))]) == [hit.score]
    assert bundled.rank(query, [passage]) == expected  # nothing wrong stays behind


class Table:
    """As a data frame: iterating gives the names of its columns."""

    columns = ("question", "answer")

    def __iter__(self) -> Any:
        return iter(self.columns)


@pytest.mark.parametrize("passages", [{"a": 1}, Table(), b"bytes", "one str", 3, None])
def test_what_is_not_a_list_of_passages_is_refused(passages: Any, bundled: GLiClassReranker) -> None:
    for call in (lambda: bundled.rank("q", passages), lambda: bundled.score("q", passages)):
        with pytest.raises(TypeError, match=r"passages is .*; expected a list of str"):
            call()


@pytest.mark.parametrize("item", [UserString("a"), b"a", ["a"], {"text": "a"}, 1.5, float("nan")])
def test_a_passage_that_is_not_a_str_is_named_by_its_index(item: Any, bundled: GLiClassReranker) -> None:
    with pytest.raises(TypeError, match=r"passages\[1\] is an? .*; expected a str. Convert it or drop it"):
        bundled.rank("q", ["fine", item])


@pytest.mark.parametrize(
    ("pair", "name"),
    [
        ({"query": "tea", "passage": "Tea."}, r"pairs\[1\] is \{"),
        ("ab", r"pairs\[1\] is 'ab'"),
        (("tea",), r"pairs\[1\] is \('tea',\)"),
        (("a", "b", "c"), r"pairs\[1\]"),
        ((["tea"], "x"), r"pairs\[1\]\[0\] is a list"),
        (("tea", None), r"pairs\[1\]\[1\] is None"),
        (3, r"pairs\[1\] is 3"),
    ],
)
def test_what_is_not_a_pair_is_named_by_its_index(pair: Any, name: str, bundled: GLiClassReranker) -> None:
    with pytest.raises(TypeError, match=name):
        bundled.score_pairs([("tea", "Tea is brewed."), pair])


@pytest.mark.parametrize("pairs", [{"tea": "Tea."}, Table(), "ab", None])
def test_what_is_not_a_list_of_pairs_is_refused(pairs: Any, bundled: GLiClassReranker) -> None:
    with pytest.raises(TypeError, match=r"pairs is .*; expected a list of"):
        bundled.score_pairs(pairs)


# Nothing to read


@pytest.mark.parametrize("long_passages", ["truncate", "windows"])
def test_a_passage_without_a_token_scores_zero_and_ranks_last(long_passages: str) -> None:
    model = reranker(long_passages)
    hits = model.rank("does bread rise?", ["", " \n\t", "\x00", "\u200b", "Bread rises because yeast makes gas."])
    assert [hit.index for hit in hits] == [4, 0, 1, 2, 3]
    assert [hit.score for hit in hits[1:]] == [0.0] * 4 and all(math.isfinite(hit.logit) for hit in hits)
    assert [hit.index for hit in fill_context(hits, 100, threshold=1e-9)] == [4]


@pytest.mark.parametrize("query", ["\ue000", "\uf8ff \ue123"])
@pytest.mark.parametrize("passages", [["Tea is brewed."], []])
def test_a_query_without_a_token_is_refused(query: str, passages: list[str], bundled: GLiClassReranker) -> None:
    if bundled.engine.model.checkpoint.prompts.tokenizer.encode([query], after_control=True)[0]:
        pytest.skip("this tokenizer knows the character")
    for call in (lambda: bundled.rank(query, passages), lambda: bundled.score_matrix([query], passages)):
        with pytest.raises(ValueError, match=r"query is .* finds no token"):
            call()


@pytest.mark.slow
def test_windows_over_megabytes_of_nothing_end_soon(bundled: GLiClassReranker) -> None:
    model = reranker("windows")
    answer = "Bread rises because yeast makes gas."
    nothing, hidden = model.rank("does bread rise?", ["\x00" * (8 << 20), "\x00" * (8 << 20) + answer])[::-1]
    assert nothing.score == 0.0 and nothing.index == 0
    assert hidden.span is not None and answer in hidden.text[slice(*hidden.span)]


# Queries that are too long


def test_a_long_query_is_refused_or_cut_and_loses_no_other_pair() -> None:
    long, passage = "does bread rise? " * 60, "Bread rises because yeast makes gas."
    with pytest.raises(ValueError, match=r"takes \d+ of max_length 96 .*long_queries='truncate'"):
        reranker("truncate").rank(long, [passage])
    cutting = reranker("truncate", "truncate")
    [hit] = cutting.rank(long, [passage])
    assert hit.truncated and hit.score > 0
    short_score, long_score = cutting.score_pairs([("does bread rise?", passage), (long, passage)])
    assert short_score == pytest.approx(reranker("truncate").score("does bread rise?", [passage])[0], abs=1e-6)
    assert long_score == pytest.approx(hit.score, abs=1e-6)


def test_truncation_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    model = GLiClassReranker.from_pretrained(device="cpu", dtype="float32", max_length=32)
    with caplog.at_level(logging.WARNING, logger="gliclass_rerank"):
        for _ in range(3):
            model.rank("does bread rise?", ["bread rises " * 60, "short"])
    assert [record.message for record in caplog.records if "1 of 2 passages" in record.message] != []
    assert len(caplog.records) == 1


# The same for the classifier


def test_the_classifier_takes_what_the_official_pipeline_takes(checkpoint_folder: Any) -> None:
    classifier = ZeroShotClassifier.from_pretrained(checkpoint_folder(), device="cpu", dtype="float32")
    plain = classifier("Bread rises.", ["food", "sport"], 0.0)
    assert classifier("Bread rises.", ["food", "sport"], 0.0, 8) == plain  # the fourth argument is a batch size there
    assert classifier("Bread rises.", ["food", "sport"], 0.0, batch_size=8, rac_examples=None) == plain
    with pytest.raises(ValueError, match=r"rac_examples is given.*examples="):
        classifier("Bread rises.", ["food"], rac_examples=["x"])


def test_queries_together_share_prompts_that_every_check_accepts() -> None:
    queries, passage = ["tea " * 14, "rain " * 14], "Tea is brewed from dried leaves."
    for options in ({"long_passages": "windows"}, {"long_passages": "truncate"}):
        model = GLiClassReranker.from_pretrained(device="cpu", dtype="float32", max_length=64, **options)
        [hit] = model.rank(queries, [passage], together=True, facets=["hot"])
        assert not hit.truncated and 0 < hit.facets["hot"] < 1


def test_a_cut_query_leaves_the_facets_whole() -> None:
    model = GLiClassReranker.from_pretrained(device="cpu", dtype="float32", max_length=64, long_queries="truncate")
    facet, passage = "is about the walls and the gates of very old towns in the north", "Old towns have walls."
    [hit] = model.rank("does bread rise? " * 20, [passage], facets=[facet])
    prompts = model.engine.model.checkpoint.prompts
    room = 32 - (prompts.count_tokens([facet]) + 1)
    query = prompts.frame(["does bread rise? " * 20, facet], label_limits=[room, None])
    [prompt] = [query.around(prompts.encode_texts([passage], 64)[0], 64)]
    [logits] = model.engine.model.scorer.logits([prompt])
    assert hit.truncated and hit.facets[facet] == pytest.approx(sigmoid(float(logits[1])), abs=1e-6)


class Watched:
    """An object that tells of the calls of one method, and is otherwise the same."""

    def __init__(self, watched: Any, name: str, tell: Callable[[], None]) -> None:
        self._watched, self._name, self._tell = watched, name, tell

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            self._tell()
        return getattr(self._watched, name)


def test_the_next_passages_are_tokenised_while_the_model_computes(bundled: GLiClassReranker) -> None:
    next_is_prepared, prepared, computed = threading.Event(), [], []

    def prepare() -> None:
        prepared.append(len(computed))
        if len(prepared) == 2:
            next_is_prepared.set()

    def compute() -> None:
        assert next_is_prepared.wait(timeout=60), "the first block was computed before the second was tokenised"
        computed.append(len(prepared))

    model = bundled.engine.model
    checkpoint = replace(model.checkpoint, prompts=Watched(model.checkpoint.prompts, "encode_texts", prepare))
    watched = LoadedModel(checkpoint, Watched(model.scorer, "logits", compute))
    engine = PassageScorer(watched)
    # Blocks are planned by characters, and so long a word is a single token.
    pairs = [LabelledPassage(("bread",), f"{number} bread rises {'x' * 2100}") for number in range(600)]
    results = engine.score(pairs)
    assert len(computed) > 1 and len(results) == len(pairs)
    assert results[-1].logits == pytest.approx(PassageScorer(model).score(pairs[-1:])[0].logits, abs=1e-4)
