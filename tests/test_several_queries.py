"""Several queries, apart and together, and facets beside them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.fusion import fuse
from gliclass_rerank.probabilities import sigmoid
from tests.conftest import PASSAGES
from tests.random_checkpoints import OfficialPipeline

QUERIES = ["does bread rise?", "sugar from leaves", "how do I find north?"]
FACETS = ["is about food", "holds a number"]
logit_rows = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.lists(st.floats(-60, 60), min_size=n, max_size=n), min_size=1, max_size=4)
)


@pytest.fixture(scope="module", params=[True, False], ids=["prompt first", "passage first"])
def folder(request: pytest.FixtureRequest, checkpoint_folder: Callable[..., Path]) -> Path:
    return checkpoint_folder("bert", prompt_first=request.param, pooling_strategy="avg", scorer_type="mlp")


def load(folder: Path, max_length: int | None = None) -> GLiClassReranker:
    return GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32", max_length=max_length)


# Fusion


@given(logit_rows)
def test_the_fused_score_is_the_best_or_the_mean(rows: list[list[float]]) -> None:
    columns = np.array(rows)
    scores = 1 / (1 + np.exp(-columns))
    best, by_best = fuse(rows, "max")
    mean, by_mean = fuse(rows, "mean")
    rrf, by_rank = fuse(rows, "rrf")
    assert best == rrf == columns.max(0).tolist()
    assert [sigmoid(logit) for logit in mean] == pytest.approx(scores.mean(0).tolist(), rel=1e-9)
    for order, values in ((by_best, best), (by_mean, mean)):
        # Falling, and in input order where equal.
        assert order == sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert sorted(by_rank) == sorted(by_best)
    if len(rows) == 1:
        assert by_rank == by_best == by_mean


def test_reciprocal_ranks_beat_one_high_score() -> None:
    # Ranks: 1, 2, 3 under the first query; 3, 1, 2 under the second.
    scores, order = fuse([[0.99, 0.3, 0.2], [0.1, 0.3, 0.2]], "rrf")
    assert scores == [0.99, 0.3, 0.2]
    sums = [1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 63 + 1 / 62]
    assert order == sorted(range(3), key=lambda i: -sums[i]) == [1, 0, 2]


def test_equal_logits_have_equal_ranks() -> None:
    # Under the first query passages 0 and 1 tie, so the second query decides between them.
    assert fuse([[0.5, 0.5, 0.1], [0.1, 0.2, 0.3]], "rrf")[1] == [1, 0, 2]
    assert fuse([[0.5, 0.5], [0.3, 0.3]], "rrf")[1] == [0, 1]
    # Copies of a passage do not push a passage that ties with them down: ranks 1, 1, 1 and 4, 4, 4, then 1.
    assert fuse([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9]], "rrf")[1] == [3, 0, 1, 2]


def test_equal_sums_of_ranks_keep_the_input_order() -> None:
    # Passages 0 and 9 have the ranks 7, 8, 5 and 5, 7, 8.
    rows = [[0.0] * 12 for _ in range(3)]
    for row, (first_rank, last_rank) in zip(rows, ((7, 5), (8, 7), (5, 8)), strict=True):
        others = iter(rank for rank in range(1, 13) if rank not in (first_rank, last_rank))
        for i in range(12):
            row[i] = 1 / {0: first_rank, 9: last_rank}.get(i, 0) if i in (0, 9) else 1 / next(others)
    order = fuse(rows, "rrf")[1]
    assert order.index(0) == order.index(9) - 1
    first, second = fuse([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]], "mean")[0]
    assert first == second


@given(logit_rows, st.floats(0, 10))
def test_the_input_order_counts_by_its_weight(rows: list[list[float]], weight: float) -> None:
    for fusion in ("max", "mean"):
        logits, order = fuse(rows, fusion, weight)
        assert logits == fuse(rows, fusion)[0]
        values = [logit - weight * math.log(i + 1) for i, logit in enumerate(logits)]
        assert order == sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert fuse(rows, "rrf", 1e6)[1] == list(range(len(rows[0])))


def test_several_queries_are_scored_apart_and_fused(bundled: GLiClassReranker) -> None:
    by_query = [{hit.index: hit.logit for hit in bundled.rank(query, PASSAGES)} for query in QUERIES]
    matrix = [[logits[i] for i in range(len(PASSAGES))] for logits in by_query]
    for fusion in ("max", "mean", "rrf"):
        logits, order = fuse(matrix, fusion)
        scores = [sigmoid(logit) for logit in logits]
        hits = bundled.rank(QUERIES, PASSAGES, fusion=fusion)
        assert [hit.index for hit in hits] == order
        assert [hit.score for hit in hits] == pytest.approx([scores[i] for i in order], abs=1e-6)
        # The threshold is the fused score's, whatever decides on the order.
        above = bundled.rank(QUERIES, PASSAGES, fusion=fusion, threshold=sorted(scores)[-2] - 1e-6)
        assert [hit.index for hit in above] == [i for i in order if scores[i] >= sorted(scores)[-2] - 1e-6]
    assert asyncio.run(bundled.arank(QUERIES, PASSAGES, fusion="rrf", together=True, facets=FACETS)) == bundled.rank(
        iter(QUERIES), PASSAGES, fusion="rrf", together=True, facets=iter(FACETS)
    )


# Together


def test_queries_together_are_the_official_labels_together(folder: Path) -> None:
    reranker = load(folder)
    official = np.array(OfficialPipeline(folder).score_labels(QUERIES, PASSAGES)).T
    np.testing.assert_allclose(reranker.score_matrix(QUERIES, PASSAGES, together=True), official, atol=1e-5)
    apart = reranker.score_matrix(QUERIES, PASSAGES)
    assert np.abs(apart - official).max() > 1e-4  # or this test says nothing
    hits = reranker.rank(QUERIES, PASSAGES, together=True)
    assert [hit.score for hit in hits] == pytest.approx(sorted(official.max(0), reverse=True), abs=1e-5)


def test_queries_that_do_not_fit_share_several_prompts(folder: Path) -> None:
    few = load(folder, 500)
    ten = [f"{i}" for i in range(10)]
    by_eight = np.concatenate([few.score_matrix(part, ["bread"], together=True) for part in (ten[:8], ten[8:])])
    np.testing.assert_allclose(few.score_matrix(ten, ["bread"], together=True), by_eight, atol=1e-6)
    queries = [f"query {i} about bread" for i in range(7)]
    count = load(folder).engine.model.checkpoint.prompts.count_tokens
    length = 2 * count(queries[:3])
    assert count(queries[:4]) > length // 2
    small, whole = load(folder, length), load(folder)
    short = ["bread", "sugar"]
    expected = np.concatenate([whole.score_matrix(queries[i : i + 3], short, together=True) for i in (0, 3, 6)])
    np.testing.assert_allclose(small.score_matrix(queries, short, together=True), expected, atol=1e-6)


def test_a_query_longer_than_half_a_prompt_stays_alone(folder: Path) -> None:
    long = "bread " * 30
    reranker = load(folder, load(folder).engine.model.checkpoint.prompts.count_tokens([long]) + 20)
    together = reranker.score_matrix(["sugar", long, "north"], ["bread"], together=True)
    np.testing.assert_allclose(together, reranker.score_matrix(["sugar", long, "north"], ["bread"]), atol=1e-6)


@pytest.mark.parametrize("together", [True, False])
def test_no_queries_no_rows(bundled: GLiClassReranker, together: bool) -> None:
    assert bundled.score_matrix([], PASSAGES, together=together).shape == (0, len(PASSAGES))


# Facets


def test_facets_are_scored_beside_the_query(folder: Path) -> None:
    official = OfficialPipeline(folder).score_labels([QUERIES[0], *FACETS], PASSAGES)
    for hit in load(folder).rank(QUERIES[0], PASSAGES, facets=FACETS):
        score, *facets = official[hit.index]
        assert hit.score == pytest.approx(score, abs=1e-5)
        assert list(hit.facets) == FACETS and list(hit.facets.values()) == pytest.approx(facets, abs=1e-5)


@pytest.mark.parametrize("together", [True, False])
def test_every_query_has_the_facets_beside_it(folder: Path, together: bool) -> None:
    reranker = load(folder)
    alone = {hit.index: hit for hit in reranker.rank(QUERIES[0], PASSAGES, facets=[*FACETS, FACETS[0]])}
    for hit in reranker.rank(QUERIES, PASSAGES, together=together, facets=FACETS):
        assert list(hit.facets) == list(alone[hit.index].facets) == FACETS
        if not together:
            assert hit.facets == pytest.approx(alone[hit.index].facets)
            assert hit.score >= alone[hit.index].score - 1e-6


def test_a_facet_with_a_threshold_drops_passages_below_it(bundled: GLiClassReranker) -> None:
    scores = {hit.index: hit.facets[FACETS[0]] for hit in bundled.rank(QUERIES[0], PASSAGES, facets=FACETS)}
    needed = sorted(scores.values())[2]
    hits = bundled.rank(QUERIES[0], PASSAGES, facets={FACETS[0]: needed, FACETS[1]: 0}, top_k=3)
    passing = [hit for hit in bundled.rank(QUERIES[0], PASSAGES, facets=FACETS) if scores[hit.index] >= needed]
    assert hits == passing[:3] and len(passing) == len(PASSAGES) - 2


def test_without_facets_there_are_none(bundled: GLiClassReranker) -> None:
    [hit] = bundled.rank("bread", ["Bread rises."])
    assert hit.facets == {} and math.isfinite(hit.score) and {hit: 1}[hit] == 1


@pytest.mark.parametrize(
    ("query", "options", "error", "message"),
    [
        ([], {}, ValueError, "query is empty"),
        (["bread", " "], {}, ValueError, r"query\[1\] is ' '"),
        (["bread", 3], {}, TypeError, r"query\[1\] is an int"),
        ("bread", {"fusion": "best"}, ValueError, "fusion is 'best'; expected one of max, mean, rrf"),
        ("bread", {"facets": "food"}, TypeError, "facets is a single str"),
        ("bread", {"facets": ["food", ""]}, ValueError, r"facets\[1\] is ''"),
        ("bread", {"facets": {"food": None}}, TypeError, r"facets\['food'\] is None"),
        ("bread", {"facets": {"food": 1.5}}, ValueError, r"facets\['food'\] is 1.5; .* \[0, 1\], 0 to keep every"),
        ("bread", {"facets": {"food": "1"}}, TypeError, r"facets\['food'\] is '1'; .* \[0, 1\], 0 to keep every"),
        ("bread", {"facets": {3: 0.5}}, TypeError, "a key of facets is an int; expected a str"),
        ("bread", {"facets": {" ": 0.5}}, ValueError, "a key of facets is ' '"),
        ("bread", {"facets": [3]}, TypeError, r"facets\[0\] is an int; expected a str"),
        ("bread", {"facets": 3}, TypeError, "facets is an int; expected a list of str"),
        ("bread", {"facets": ["food " * 300]}, ValueError, r"query and facets take \d+ of max_length 512"),
    ],
)
@pytest.mark.parametrize("passages", [PASSAGES, []])
def test_bad_queries_and_facets_are_refused(
    query: Any, options: dict[str, Any], error: type[Exception], message: str, passages: Any, bundled: GLiClassReranker
) -> None:
    with pytest.raises(error, match=message):
        bundled.rank(query, passages, **options)
