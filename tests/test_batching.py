from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_rerank.engine.batching import plan_batches

lengths_and_budget = (st.lists(st.integers(1, 600), max_size=200), st.integers(1, 4000))


@given(*lengths_and_budget)
def test_every_sequence_runs_exactly_once(lengths: list[int], budget: int) -> None:
    planned = [i for batch in plan_batches(lengths, budget) for i in batch]
    assert sorted(planned) == list(range(len(lengths)))


@given(*lengths_and_budget)
def test_padded_batches_stay_within_the_budget(lengths: list[int], budget: int) -> None:
    for batch in plan_batches(lengths, budget):
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(*lengths_and_budget)
def test_batches_hold_neighbours_by_length_the_longest_first(lengths: list[int], budget: int) -> None:
    planned = [lengths[i] for batch in plan_batches(lengths, budget) for i in batch]
    assert planned == sorted(lengths, reverse=True)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="token_budget is 0"):
        plan_batches([1], 0)
