"""Passages that were read before, and those that are read ahead."""

from __future__ import annotations

import subprocess
import sys
import threading
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_rerank.engine.ahead import ahead
from gliclass_rerank.engine.checkpoint import load_checkpoint
from gliclass_rerank.prompt.token_cache import Encoded, TokenCache, key_of

SEEN, FRESH = load_checkpoint().prompts, load_checkpoint().prompts


def encoded(*ids: int, cut: bool = False) -> Encoded:
    return Encoded(array("i", ids), cut)


def test_what_was_kept_is_found_under_its_text_and_limit() -> None:
    cache = TokenCache(1000)
    cache.put(key_of("tea", 8), encoded(1, 2))
    assert cache.get(key_of("tea", 8)) == encoded(1, 2)
    assert cache.get(key_of("tea", 9)) is None
    assert cache.get(key_of("te", 8)) is None


def test_what_was_not_used_for_longest_goes_first() -> None:
    cache = TokenCache(260)  # two entries of 126
    for text in "ab":
        cache.put(key_of(text, 8), encoded(*range(36)))
    assert cache.get(key_of("a", 8))
    cache.put(key_of("c", 8), encoded(*range(36)))
    assert [text for text in "abc" if cache.get(key_of(text, 8))] == ["a", "c"]


def test_an_entry_that_is_kept_twice_counts_once() -> None:
    cache = TokenCache(260)
    for _ in range(5):
        cache.put(key_of("a", 8), encoded(*range(36)))
    cache.put(key_of("b", 8), encoded(*range(36)))
    assert cache.get(key_of("a", 8)) and cache.get(key_of("b", 8))


def test_an_entry_larger_than_the_cache_does_no_harm() -> None:
    cache = TokenCache(100)
    cache.put(key_of("a", 8), encoded(1))
    cache.put(key_of("b", 8), encoded(*range(500)))
    assert cache.get(key_of("b", 8)) is None and cache.get(key_of("a", 8))


def test_a_passage_is_read_once_for_all_queries() -> None:
    prompts = load_checkpoint().prompts
    [first] = prompts.build(["a query"], ["what is kept"], 64)
    prompts._cache.put(key_of("kept", 64), encoded(*first.ids[:3]))
    [second] = prompts.build(["another"], ["kept"], 64)
    assert [*first.ids[:3], first.ids[-1]] == second.ids[-4:]
    assert prompts._cache.get(key_of("what is kept", 64))


def test_a_passage_of_any_size_and_a_broken_one_become_what_they_became_before() -> None:
    texts = ["a lone \ud800 surrogate", "word " * 20_000, "\x00", ""]
    prompts = load_checkpoint().prompts
    assert prompts.build(["query"], texts, 64) == prompts.build(["query"], texts, 64)
    assert prompts._cache.get(key_of(texts[0], 64)) and not prompts._cache.get(key_of(texts[1], 64))


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


def test_ahead_waits_its_turn_where_no_thread_can_be_had() -> None:
    # Threads that outlive the main one find that no pool takes work any more.
    script = """
import threading
from gliclass_rerank.engine.ahead import ahead

def late():
    threading.main_thread().join()
    print(list(ahead(str.upper, ["a", "b", "c"])))

threading.Thread(target=late).start()
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['A', 'B', 'C']"


def test_ahead_lets_go_of_what_nobody_asks_for() -> None:
    before = threading.active_count()
    results = ahead(str.upper, ["a", "b", "c"])
    assert next(results) == "A"
    results.close()
    assert threading.active_count() == before
