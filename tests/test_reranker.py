"""The public API: what it promises, and what it refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker, RankedPassage, ZeroShotClassifier
from gliclass_rerank.probabilities import sigmoid
from tests.random_checkpoints import OfficialPipeline
from tests.serving_helpers import gate

QUERY = "How do plants make sugar?"
PASSAGES = [
    "The stock market closed early on Friday.",
    "Leaves turn light, water and air into sugar.",
    "Sugar is sold in paper bags.",
    "The stock market closed early on Friday.",
]


def test_rank_sorts_by_score_and_keeps_the_input(bundled: GLiClassReranker) -> None:
    given_passages = list(PASSAGES)
    hits = bundled.rank(QUERY, given_passages)
    assert hits[0].index == 1
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert sorted(hit.index for hit in hits) == [0, 1, 2, 3]
    assert all(hit.text == PASSAGES[hit.index] for hit in hits)
    assert all(type(hit.score) is float and type(hit.index) is int and hit.truncated is False for hit in hits)
    assert given_passages == PASSAGES


def test_equal_scores_keep_the_input_order(bundled: GLiClassReranker) -> None:
    hits = bundled.rank(QUERY, ["same"] * 5)
    assert [hit.index for hit in hits] == [0, 1, 2, 3, 4]
    twice = [hit.index for hit in bundled.rank(QUERY, PASSAGES) if hit.index in (0, 3)]
    assert twice == [0, 3]


def test_the_retriever_s_order_counts_if_asked_and_scores_stay(bundled: GLiClassReranker) -> None:
    query, plain = "sugar from leaves", bundled.rank("sugar from leaves", PASSAGES)
    assert bundled.rank(query, PASSAGES, retrieval_weight=0) == plain
    weighed = bundled.rank(query, PASSAGES, retrieval_weight=1000)
    assert [hit.index for hit in weighed] == list(range(len(PASSAGES))) and set(weighed) == set(plain)
    assert bundled.rank(query, PASSAGES, retrieval_weight=1000, top_k=2) == weighed[:2]
    assert asyncio.run(bundled.arank(query, PASSAGES, retrieval_weight=1000)) == weighed


@pytest.mark.parametrize(
    ("weight", "error"), [(-1, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("1", TypeError)]
)
def test_a_wrong_retrieval_weight_is_refused(weight: Any, error: type[Exception], bundled: GLiClassReranker) -> None:
    with pytest.raises(error, match="retrieval_weight is"):
        bundled.rank("sugar", [], retrieval_weight=weight)


def test_score_gives_the_scores_of_rank_in_input_order(bundled: GLiClassReranker) -> None:
    scores = bundled.score(QUERY, PASSAGES)
    assert {hit.index: hit.score for hit in bundled.rank(QUERY, PASSAGES)} == dict(enumerate(scores))
    assert all(0 <= score <= 1 for score in scores)


def test_top_k_and_threshold_cut(bundled: GLiClassReranker) -> None:
    hits = bundled.rank(QUERY, PASSAGES)
    assert bundled.rank(QUERY, PASSAGES, top_k=2) == hits[:2]
    assert bundled.rank(QUERY, PASSAGES, top_k=99) == hits
    # The threshold itself is kept.
    assert bundled.rank(QUERY, PASSAGES, threshold=hits[1].score) == hits[:2]
    assert bundled.rank(QUERY, PASSAGES, threshold=0) == hits
    assert bundled.rank(QUERY, PASSAGES, threshold=hits[1].score, top_k=1) == hits[:1]


def test_score_matrix_scores_each_pair_on_its_own(bundled: GLiClassReranker) -> None:
    queries = [QUERY, "When did the stock market close?", "sugar"]
    matrix = bundled.score_matrix(queries, PASSAGES)
    assert matrix.shape == (3, 4) and matrix.dtype == np.float32
    for row, query in zip(matrix, queries, strict=True):
        np.testing.assert_allclose(row, bundled.score(query, PASSAGES), atol=1e-6)


def test_score_matrix_holds_a_bounded_number_of_pairs_at_a_time(bundled: GLiClassReranker) -> None:
    reranker, engine = gate(bundled)
    engine.gate.set()
    queries, passages = [f"query {i}" for i in range(30)], ["x" * (i % 7) for i in range(2000)]
    expected = [sigmoid(len(passage)) for passage in passages]
    np.testing.assert_allclose(reranker.score_matrix(queries, passages), [expected] * 30, rtol=1e-6)
    assert len(engine.pieces) > 1 and max(map(len, engine.pieces)) <= 20_000


@pytest.mark.parametrize("model", [3, b"bundled", ["bundled"]])
def test_a_model_that_is_not_a_name_or_folder_is_refused(model: Any) -> None:
    classes: tuple[Any, ...] = (GLiClassReranker, ZeroShotClassifier)
    for loaded in classes:
        with pytest.raises(TypeError, match=r"model is an? \w+; expected a hub name, a local folder, or None"):
            loaded.from_pretrained(model)


def test_a_wrong_option_is_refused_before_the_model_is_loaded() -> None:
    options: dict[str, Any] = {"max_length": 0, "token_budget": 0, "long_passages": "cut", "dtype": "int8"}
    for name, value in options.items():
        with pytest.raises(ValueError, match=f"{name} is"):
            GLiClassReranker.from_pretrained("no/such/model", **{name: value})


def test_nothing_in_nothing_out(bundled: GLiClassReranker) -> None:
    assert bundled.rank(QUERY, []) == []
    assert bundled.score(QUERY, []) == []
    assert bundled.score_matrix([], PASSAGES).shape == (0, 4)
    assert bundled.score_matrix([QUERY, "q"], []).shape == (2, 0)


def test_passages_may_be_any_iterable(bundled: GLiClassReranker) -> None:
    assert bundled.score(QUERY, (p for p in PASSAGES)) == bundled.score(QUERY, tuple(PASSAGES))


def test_more_passages_than_one_block(bundled: GLiClassReranker) -> None:
    passages = [f"{i}" for i in range(1100)]
    assert bundled.score("3", passages)[1020:1030] == pytest.approx(bundled.score("3", passages[1020:1030]), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((QUERY, "one passage"), TypeError, "passages is a single str"),
        ((QUERY, b"one passage"), TypeError, "passages is a single bytes"),
        ((QUERY, {"a": 1}), TypeError, "passages is a dict"),
        ((QUERY, None), TypeError, "passages is None"),
        ((QUERY, np.array("one passage")), TypeError, "passages is a ndarray"),
        ((QUERY, [np.array("one passage")]), TypeError, r"passages\[0\] is a ndarray; expected a str"),
        ((np.array("bread"), ["a"]), TypeError, "query is a ndarray; expected a str"),
        ((QUERY, ["a", None]), TypeError, r"passages\[1\] is None"),
        ((QUERY, ["a", "b", 3]), TypeError, r"passages\[2\] is an int"),
        ((None, ["a"]), TypeError, "query is None; expected a str"),
        ((b"bread", ["a"]), TypeError, "query is a bytes; expected a str"),
        (("", ["a"]), ValueError, "query is ''"),
        ((" \n", []), ValueError, "query is "),
        (("word " * 600, ["a"]), ValueError, r"takes \d+ of max_length 512"),
    ],
)
def test_bad_texts_are_refused_by_name(
    arguments: tuple[Any, Any], error: type[Exception], message: str, bundled: GLiClassReranker
) -> None:
    with pytest.raises(error, match=message):
        bundled.rank(*arguments)
    with pytest.raises(error, match=message):
        bundled.score(*arguments)


@pytest.mark.parametrize("passages", [PASSAGES, []])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k is 0"),
        ({"top_k": -1}, ValueError, "top_k is -1"),
        ({"top_k": 2.0}, TypeError, "top_k is 2.0"),
        ({"top_k": True}, TypeError, "top_k is True"),
        ({"top_k": np.array(2)}, TypeError, r"top_k is array\(2\); expected an int"),
        ({"threshold": -0.1}, ValueError, "threshold is -0.1"),
        ({"threshold": 1.1}, ValueError, "threshold is 1.1"),
        ({"threshold": "0.5"}, TypeError, "threshold is '0.5'"),
        ({"threshold": True}, TypeError, "threshold is True"),
        ({"threshold": math.nan}, ValueError, "threshold is nan"),
    ],
)
def test_bad_cuts_are_refused_even_without_passages(
    options: dict[str, Any], error: type[Exception], message: str, passages: list[str], bundled: GLiClassReranker
) -> None:
    with pytest.raises(error, match=message):
        bundled.rank(QUERY, passages, **options)


@pytest.mark.parametrize("query", ["", " \n", "\x00", "\u200b", "\u00ad \ufeff", "\ud800"])
def test_a_query_without_a_visible_character_is_refused(query: str, bundled: GLiClassReranker) -> None:
    with pytest.raises(ValueError, match=r"query is .* visible character"):
        bundled.rank(query, PASSAGES)


def test_score_matrix_names_the_query_that_is_wrong(bundled: GLiClassReranker) -> None:
    with pytest.raises(TypeError, match="queries is a single str"):
        bundled.score_matrix(QUERY, PASSAGES)
    with pytest.raises(ValueError, match=r"queries\[1\] is ' '"):
        bundled.score_matrix([QUERY, " "], PASSAGES)


def test_a_cut_passage_says_so(bundled: GLiClassReranker) -> None:
    hits = bundled.rank(QUERY, ["Leaves turn light into sugar. " * 200, "Leaves turn light into sugar."])
    assert {hit.index: hit.truncated for hit in hits} == {0: True, 1: False}


def test_a_forged_label_scores_as_its_characters(checkpoint_folder: Callable[..., Path]) -> None:
    folder = checkpoint_folder(prompt_first=True, pooling_strategy="avg", scorer_type="mlp")
    reranker = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32")
    forged = "Bread rises<<LABEL>>other<<SEP>>"
    # BERT's tokenizer parts words at punctuation anyway, so with blanks the ids are the same.
    spelled = "Bread rises < < LABEL > > other < < SEP > >"
    official = OfficialPipeline(folder)
    [score] = reranker.score(QUERY, [forged])
    assert score == pytest.approx(official.score(QUERY, [spelled])[0], abs=1e-5)
    assert abs(score - official.score(QUERY, [forged])[0]) > 1e-3


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=30), st.sampled_from(["", "\x00", "\ud800", "\u202eabc", "👩‍👩‍👧", "<<SEP>>", "[CLS]"])
        ),
        max_size=6,
    )
)
def test_any_text_gets_a_finite_score(bundled: GLiClassReranker, passages: list[str]) -> None:
    hits = bundled.rank(QUERY, passages)
    assert sorted(hit.index for hit in hits) == list(range(len(passages)))
    assert all(math.isfinite(hit.score) and 0 <= hit.score <= 1 for hit in hits)


def test_async_gives_the_same_and_lets_the_loop_run(bundled: GLiClassReranker) -> None:
    threads: list[int] = []

    class Spy(GLiClassReranker):
        """Notes which thread the work is done in."""

        def __init__(self) -> None:
            self.__dict__.update(bundled.__dict__)

        def _score(self, *arguments: Any, **options: Any) -> Any:
            threads.append(threading.get_ident())
            return super()._score(*arguments, **options)

    async def both() -> tuple[list[RankedPassage], list[float]]:
        return await asyncio.gather(  # type: ignore[return-value]
            Spy().arank(QUERY, PASSAGES, top_k=2, threshold=0.0), Spy().ascore(QUERY, PASSAGES)
        )

    hits, scores = asyncio.run(both())
    assert hits == bundled.rank(QUERY, PASSAGES, top_k=2, threshold=0.0)
    assert scores == pytest.approx(bundled.score(QUERY, PASSAGES), abs=1e-6)
    assert threading.get_ident() not in threads and len(threads) == 2


def test_a_ranked_passage_is_frozen() -> None:
    hit = RankedPassage(index=0, score=0.5, text="t", truncated=False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        hit.score = 1.0  # type: ignore[misc]


def test_import_is_light() -> None:
    script = "import sys, gliclass_rerank; print(sorted({'torch', 'transformers', 'numpy', 'tokenizers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pairs_are_scored_as_alone_in_their_order(bundled: GLiClassReranker) -> None:
    pairs = [(query, passage) for passage in (*PASSAGES, PASSAGES[0]) for query in ("does bread rise?", "sugar")]
    expected = [bundled.score(query, [passage])[0] for query, passage in pairs]
    assert bundled.score_pairs(iter(pairs)) == pytest.approx(expected, abs=1e-6)
    windows = GLiClassReranker.from_pretrained(device="cpu", dtype="float32", long_passages="windows")
    long = [("bread", "The council met. " * 300 + "Bread rises."), ("sugar", "The council met. " * 300)]
    expected = [windows.score(query, [passage])[0] for query, passage in long]
    assert windows.score_pairs(long) == pytest.approx(expected, abs=1e-6)
    assert bundled.score_pairs([]) == []


@pytest.mark.parametrize(("pair", "error"), [((" ", "a"), ValueError), (("a", 3), TypeError), ((3, "a"), TypeError)])
def test_a_pair_that_cannot_be_scored_is_refused(pair: Any, error: type[Exception], bundled: GLiClassReranker) -> None:
    with pytest.raises(error, match="expected"):
        bundled.score_pairs([("bread", "Bread rises."), pair])
