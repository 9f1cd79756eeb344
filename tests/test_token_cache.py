"""Passages that were read before, and those that are read ahead."""

from __future__ import annotations

import threading
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_rerank.ahead import ahead
from gliclass_rerank.checkpoint import load_checkpoint
from gliclass_rerank.token_cache import Encoded, TokenCache

SEEN, FRESH = load_checkpoint().prompts, load_checkpoint().prompts


def encoded(*ids: int, cut: bool = False) -> Encoded:
    return Encoded(array("i", ids), cut)


def test_what_was_kept_is_found_under_its_text_and_limit() -> None:
    cache = TokenCache(1000)
    cache.put("tea", 8, encoded(1, 2))
    assert cache.get("tea", 8) == encoded(1, 2)
    assert cache.get("tea", 9) is None
    assert cache.get("te", 8) is None


def test_what_was_not_used_for_longest_goes_first() -> None:
    cache = TokenCache(200)  # two entries of a hundred, or less
    for text in "ab":
        cache.put(text, 8, encoded(*range(36)))
    assert cache.get("a", 8)
    cache.put("c", 8, encoded(*range(36)))
    assert [text for text in "abc" if cache.get(text, 8)] == ["a", "c"]


def test_an_entry_that_is_kept_twice_counts_once() -> None:
    cache = TokenCache(200)
    for _ in range(5):
        cache.put("a", 8, encoded(*range(36)))
    cache.put("b", 8, encoded(*range(36)))
    assert cache.get("a", 8) and cache.get("b", 8)


def test_an_entry_larger_than_the_cache_does_no_harm() -> None:
    cache = TokenCache(100)
    cache.put("a", 8, encoded(*range(500)))
    cache.put("b", 8, encoded(1))
    assert cache.get("a", 8) is None and cache.get("b", 8)


@given(st.lists(st.text(max_size=60), max_size=6), st.integers(12, 40), st.integers(12, 40))
def test_passages_seen_before_become_the_same_prompts(texts: list[str], first: int, second: int) -> None:
    SEEN.build(["other"], texts, first)
    SEEN.build(["another"], texts, second)
    assert SEEN.build(["a longer query"], texts, second) == FRESH.build(["a longer query"], texts, second)


def test_ahead_keeps_the_order_and_works_while_results_are_used() -> None:
    begun = [threading.Event() for _ in range(4)]

    def work(number: int) -> int:
        begun[number].set()
        return number * number

    for number, result in enumerate(ahead(work, range(4))):
        assert result == number * number
        assert number == 3 or begun[number + 1].wait(10)
    assert list(ahead(work, [])) == []


def test_ahead_raises_where_the_result_is_asked_for() -> None:
    def work(number: int) -> int:
        return 1 // number

    results = ahead(work, [1, 0])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
