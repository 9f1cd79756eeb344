"""Filling a context window."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_rerank import RankedPassage, fill_context


def words(text: str) -> int:
    return len(text.split())


def hits(*rows: tuple[float, str]) -> list[RankedPassage]:
    return [RankedPassage(i, score, text, False) for i, (score, text) in enumerate(rows)]


HITS = hits((0.9, "a b c"), (0.8, "d e f g"), (0.7, "h"), (0.2, "i"))


def test_the_best_that_fit_are_chosen_in_order() -> None:
    assert fill_context(HITS, 4, count_tokens=words) == [HITS[0], HITS[2]]
    assert fill_context(HITS, 3, count_tokens=words) == [HITS[0]]
    assert fill_context(HITS, 99, count_tokens=words) == HITS


def test_the_threshold_keeps_what_reaches_it() -> None:
    assert fill_context(HITS, 99, threshold=0.7, count_tokens=words) == HITS[:3]
    assert fill_context(HITS, 99, threshold=1, count_tokens=words) == []


def test_equal_texts_are_chosen_once() -> None:
    twice = hits((0.9, "a b"), (0.9, "a b"), (0.5, "c"))
    assert fill_context(twice, 3, count_tokens=words) == [twice[0], twice[2]]


def test_passages_with_nothing_to_read_are_left_out() -> None:
    rows = hits((0.9, "a"), (0.8, " \n"), (0.7, ""), (0.0, "\ue000"))
    assert fill_context(rows, 99, count_tokens=words) == rows[:1]


def test_without_a_counter_four_characters_are_a_token() -> None:
    row = hits((0.9, "x" * 41))
    assert fill_context(row, 10) == [] and fill_context(row, 11) == row


@given(st.lists(st.text(alphabet="ab ", max_size=30)), st.integers(1, 40))
def test_the_budget_is_never_exceeded(texts: list[str], budget: int) -> None:
    chosen = fill_context(hits(*((0.5, text) for text in texts)), budget, count_tokens=len)
    assert sum(len(hit.text) for hit in chosen) <= budget
    assert [hit.index for hit in chosen] == sorted(hit.index for hit in chosen)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"token_budget": 0}, ValueError, "token_budget is 0"),
        ({"token_budget": 2.5}, TypeError, "token_budget is 2.5"),
        ({"token_budget": None}, TypeError, "token_budget is None"),
        ({"token_budget": 9, "threshold": 2}, ValueError, "threshold is 2"),
    ],
)
def test_wrong_limits_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fill_context([], **arguments)
