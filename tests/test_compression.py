"""Compressing a context to the sentences that answer, and highlighting them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker, compress_context, highlight

QUERY = "How do plants make sugar?"
PASSAGES = [
    "The market closed early. Sugar rose by 2 %. It was a Friday.",
    "Plants need light. Leaves turn light, water and air into sugar. They do so by day.",
    "Sugar is sold in bags.",
]
pieces = st.sampled_from(
    [
        "Leaves make sugar. ",
        "Rain falls. ",
        "No stop here ",
        "\n",
        "\n\n",
        "- item\n",
        "```\n",
        "# Head\n",
        "é. ",
        "\ud83d",
        "x" * 900,
    ]
)
passage_lists = st.lists(st.one_of(st.text(max_size=40), st.lists(pieces, max_size=6).map("".join)), max_size=4)


def words(text: str) -> int:
    return len(text.split())


@settings(max_examples=40, deadline=None)
@given(passage_lists, st.integers(1, 60), st.sampled_from([None, words, len]))
def test_spans_are_places_in_the_passages_and_the_budget_holds(
    bundled: GLiClassReranker, passages: list[str], budget: int, count: Any
) -> None:
    options = {} if count is None else {"count_tokens": count}
    results = compress_context(QUERY, passages, token_budget=budget, reranker=bundled, **options)
    count = count or (lambda text: math.ceil(len(text) / 4))
    assert sum(count(result.text) for result in results) <= budget
    for result in results:
        assert result.spans and [span.text for span in result.spans] == [
            passages[result.index][span.start : span.end] for span in result.spans
        ]
        assert all(earlier.end <= later.start for earlier, later in pairwise(result.spans))
        rest = result.text
        for span in result.spans:  # the text is the spans, in order, and marks between them
            before, rest = rest.split(span.text, 1)
            assert before.strip() in ("", "…")
        assert rest == ""
    sentences = [span.text for result in results for span in result.spans]
    assert len(sentences) == len(set(sentences))
    assert len({result.index for result in results}) == len(results)


def test_the_best_sentences_of_the_best_passages_stay(bundled: GLiClassReranker) -> None:
    [best] = compress_context(QUERY, PASSAGES, token_budget=11, reranker=bundled)
    assert (best.index, best.text) == (1, "Leaves turn light, water and air into sugar.")
    assert best.score == pytest.approx(bundled.score(QUERY, PASSAGES)[1], abs=1e-5)
    assert best.spans[0].score == pytest.approx(bundled.score(QUERY, [best.text])[0], abs=1e-5)


def test_with_room_for_all_every_passage_comes_back_whole_and_best_first(bundled: GLiClassReranker) -> None:
    results = compress_context(QUERY, PASSAGES, token_budget=1000, reranker=bundled)
    assert [result.index for result in results] == [hit.index for hit in bundled.rank(QUERY, PASSAGES)]
    assert [result.text for result in results] == [PASSAGES[result.index] for result in results]
    assert all(len(result.spans) == 1 for result in results)


def test_gaps_are_marked_where_they_are(bundled: GLiClassReranker) -> None:
    passage = (
        "Leaves make sugar from light.\n\nThe council met on Monday about the price of coal.\n\nPlants make sugar."
    )
    [result] = compress_context(QUERY, [passage], token_budget=9, reranker=bundled, count_tokens=words)
    assert result.text == "Leaves make sugar from light.\n…\nPlants make sugar."
    [result] = compress_context(
        QUERY, [passage.replace("\n\n", " ")], token_budget=9, reranker=bundled, count_tokens=words
    )
    assert result.text == "Leaves make sugar from light. … Plants make sugar."


def test_an_equal_sentence_goes_in_once(bundled: GLiClassReranker) -> None:
    twice = ["Leaves make sugar. Rain falls.", "Wind blows. Leaves make sugar."]
    results = compress_context(QUERY, twice, token_budget=1000, reranker=bundled)
    assert sum(result.text.count("Leaves make sugar.") for result in results) == 1
    assert sum(words(result.text.replace("…", "")) for result in results) == 7


def test_code_and_tables_stay_whole(bundled: GLiClassReranker) -> None:
    code = "```python\nsugar = light + water\n\nprint(sugar)\n```"
    passage = f"Plants make sugar.\n\n{code}\n\nRain falls."
    for budget in range(1, 30):
        for result in compress_context(QUERY, [passage], token_budget=budget, reranker=bundled):
            assert code in result.text or "light + water" not in result.text


def test_a_giant_sentence_is_cut_to_pieces_that_fit(bundled: GLiClassReranker) -> None:
    giant = "leaves turn light into sugar and " * 2000
    [result] = compress_context(QUERY, [giant], token_budget=300, reranker=bundled)
    assert 100 < len(result.text) <= 1200


def test_windows_several_queries_and_facets_work() -> None:
    reranker = GLiClassReranker.from_pretrained(device="cpu", dtype="float32", long_passages="windows")
    filler = "The council met on Monday and spoke about the price of coal. " * 40
    passages = [f"{filler}Leaves turn light, water and air into sugar. {filler}", "Sugar is sold in bags."]
    queries = [QUERY, "Where is sugar sold?"]
    for fusion in ("max", "mean", "rrf"):
        for together in (False, True):
            results = compress_context(
                queries,
                passages,
                token_budget=40,
                reranker=reranker,
                fusion=fusion,
                together=together,
                facets=["is about plants"],
            )
            texts = {result.index: result.text for result in results}
            assert "Leaves turn light, water and air into sugar." in texts[0] and texts[1] == passages[1]
            assert all(result.facets.keys() == {"is about plants"} for result in results)


def test_passages_below_a_threshold_or_rank_give_no_sentence(bundled: GLiClassReranker) -> None:
    hits = bundled.rank(QUERY, PASSAGES)
    options = {"token_budget": 1000, "reranker": bundled}
    results = compress_context(QUERY, PASSAGES, threshold=hits[0].score, **options)
    assert [result.index for result in results] == [hits[0].index]
    assert [result.index for result in compress_context(QUERY, PASSAGES, top_k=1, **options)] == [hits[0].index]
    assert compress_context(QUERY, PASSAGES, facets={"is about plants": 1.0}, **options) == []


def test_the_retriever_s_order_counts_for_sentences_too(bundled: GLiClassReranker) -> None:
    [result] = compress_context(QUERY, PASSAGES, token_budget=7, reranker=bundled, retrieval_weight=1000.0)
    assert result.index == 0


@pytest.mark.parametrize("passages", [[], [""], [" \n"], ["\ue000"], ["\u200b"]])
def test_nothing_to_read_gives_nothing(passages: list[str], bundled: GLiClassReranker) -> None:
    assert compress_context(QUERY, passages, token_budget=10, reranker=bundled) == []
    assert all(highlight(QUERY, passage, reranker=bundled) == [] for passage in passages)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"token_budget": 0}, ValueError, "token_budget is 0"),
        ({"token_budget": None}, TypeError, "token_budget is None"),
        ({"token_budget": 2.5}, TypeError, "token_budget is 2.5"),
        ({"token_budget": 9, "threshold": 2}, ValueError, "threshold is 2"),
        ({"token_budget": 9, "retrieval_weight": -1}, ValueError, "retrieval_weight is -1"),
        ({"token_budget": 9, "passages": "text"}, TypeError, "passages is a single str"),
        ({"token_budget": 9, "passages": [3]}, TypeError, r"passages\[0\] is an int"),
        ({"token_budget": 9, "query": " "}, ValueError, "query is ' '"),
        ({"token_budget": 9, "query": []}, ValueError, "query is empty"),
        ({"token_budget": 9, "query": 3}, TypeError, "query is an int"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str, bundled: GLiClassReranker
) -> None:
    with pytest.raises(error, match=message):
        compress_context(**{"query": QUERY, "passages": PASSAGES, "reranker": bundled, **arguments})


def test_queries_may_be_drawn_once(bundled: GLiClassReranker) -> None:
    drawn = compress_context((text for text in [QUERY]), iter(PASSAGES), token_budget=11, reranker=bundled)
    assert drawn == compress_context([QUERY], PASSAGES, token_budget=11, reranker=bundled)


def test_a_long_passage_does_not_keep_others_out(bundled: GLiClassReranker) -> None:
    long = "Leaves make sugar from light. " + " ".join(f"Sugar number {i} was sold." for i in range(300))
    results = compress_context(QUERY, [long, *PASSAGES[1:]], token_budget=30, reranker=bundled)
    assert 1 in {result.index for result in results}


# Highlighting


def test_the_sentences_that_answer_best_come_first_with_their_own_scores(bundled: GLiClassReranker) -> None:
    passage = PASSAGES[1]
    spans = highlight(QUERY, passage, reranker=bundled, top_k=None)
    assert spans[0].text == "Leaves turn light, water and air into sugar."
    assert sorted((span.start, span.end) for span in spans) == [(0, 18), (19, 63), (64, 82)]
    assert [span.text for span in spans] == [passage[span.start : span.end] for span in spans]
    assert [span.score for span in spans] == pytest.approx(
        bundled.score(QUERY, [span.text for span in spans]), abs=1e-5
    )
    assert [span.score for span in spans] == sorted((span.score for span in spans), reverse=True)


def test_highlights_can_be_cut(bundled: GLiClassReranker) -> None:
    spans = highlight(QUERY, PASSAGES[1], reranker=bundled, top_k=None)
    assert highlight(QUERY, PASSAGES[1], reranker=bundled, top_k=1) == spans[:1]
    assert highlight(QUERY, PASSAGES[1], reranker=bundled, threshold=spans[1].score) == spans[:2]
    assert highlight([QUERY, "When is it day?"], PASSAGES[1], reranker=bundled, top_k=1)[0].score >= spans[0].score


def test_a_highlight_of_something_else_than_text_is_refused(bundled: GLiClassReranker) -> None:
    with pytest.raises(TypeError, match="passage is None"):
        highlight(QUERY, None, reranker=bundled)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="top_k is 0"):
        highlight(QUERY, "text", reranker=bundled, top_k=0)
