"""The scheduler: turns, pieces, refusals, failures and its end, without a model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gliclass_rerank.serving.scheduler import ClosedError, Item, OverloadedError, Scheduler, ScoringError
from tests.serving_helpers import PanicError

Test = Callable[[Scheduler, "Gate"], Coroutine[Any, Any, None]]


class Gate:
    """A score function that waits until it is opened, and remembers its pieces."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.pieces: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[int]:
        self.entered.set()
        assert self.opened.wait(30)
        self.pieces.append(texts)
        if "poison" in texts:
            raise ValueError("poison")
        if "panic" in texts:
            raise PanicError("panic")
        return [len(text) for text in texts]


def items(*texts: str) -> list[Item]:
    return [Item(text) for text in texts]


def run_with_scheduler(test: Test, *, max_waiting: int = 1000, piece_seconds: float = 60.0) -> Gate:
    """Run a test while the scheduler is busy with a first job; all pieces, the first job's among them.

    A long piece time puts all waiting items into one piece, and 0 makes a piece of each item.
    """
    gate = Gate()
    scheduler = Scheduler(max_waiting=max_waiting, piece_seconds=piece_seconds)

    async def run() -> None:
        first = asyncio.create_task(scheduler.run(gate, items("first"), client="first"))
        await asyncio.to_thread(gate.entered.wait, 30)
        await test(scheduler, gate)
        gate.opened.set()
        assert await first == [5]

    try:
        asyncio.run(run())
    finally:
        gate.opened.set()
        assert scheduler.close(seconds=30)
    return gate


async def start(scheduler: Scheduler, gate: Gate, *texts: str, client: str = "client") -> asyncio.Task[list[int]]:
    """A job that waits in the queue."""
    task = asyncio.create_task(scheduler.run(gate, items(*texts), client=client))
    await asyncio.sleep(0)
    return task


def test_small_jobs_share_a_piece() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        jobs = [await start(scheduler, gate, f"a{i}", "bbb") for i in range(5)]
        assert scheduler.waiting == 10
        gate.opened.set()
        assert await asyncio.gather(*jobs) == [[2, 3]] * 5

    assert [len(piece) for piece in run_with_scheduler(test).pieces] == [1, 10]


def test_jobs_of_different_functions_run_in_different_pieces() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        job = await start(scheduler, gate, "a")
        other = asyncio.create_task(scheduler.run(lambda texts: [text.upper() for text in texts], items("b")))
        await asyncio.sleep(0)
        gate.opened.set()
        assert await asyncio.gather(job, other) == [[1], ["B"]]

    assert run_with_scheduler(test).pieces == [["first"], ["a"]]


def test_a_small_job_waits_for_one_piece_of_a_large_one_not_for_all_of_it() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        large = await start(scheduler, gate, *("large" for _ in range(20)))
        small = await start(scheduler, gate, "small")
        gate.opened.set()
        await asyncio.gather(large, small)

    pieces = [piece[0] for piece in run_with_scheduler(test, piece_seconds=0).pieces]
    assert len(pieces) == 22 and pieces.index("small") <= 2


def test_clients_have_equal_shares_however_many_jobs_each_has() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        many = [await start(scheduler, gate, "many", client="many") for _ in range(30)]
        one = await start(scheduler, gate, "one", client="one")
        gate.opened.set()
        await asyncio.gather(*many, one)

    pieces = [piece[0] for piece in run_with_scheduler(test, piece_seconds=0).pieces]
    assert pieces.index("one") <= 2


def test_results_come_in_the_order_of_the_items_whatever_order_they_run_in() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        job = asyncio.create_task(scheduler.run(gate, [Item("a" * n, cost=n) for n in (5, 1, 3)]))
        await asyncio.sleep(0)
        gate.opened.set()
        assert await job == [5, 1, 3]

    assert run_with_scheduler(test).pieces[1] == ["a", "aaa", "aaaaa"]  # those of similar cost beside each other


def test_a_job_that_is_cancelled_gives_up_its_place_at_the_next_piece() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        job = await start(scheduler, gate, "a", "b", "c")
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert scheduler.waiting == 0

    assert run_with_scheduler(test).pieces == [["first"]]


def test_a_job_that_is_cancelled_while_it_runs_is_not_continued() -> None:
    gate, scheduler = Gate(), Scheduler(max_waiting=100, piece_seconds=0)

    async def run() -> None:
        job = asyncio.create_task(scheduler.run(gate, items("a", "b", "c")))
        await asyncio.to_thread(gate.entered.wait, 30)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        gate.opened.set()
        assert await scheduler.run(gate, items("next")) == [4]

    asyncio.run(run())
    assert scheduler.close(seconds=30)
    assert sorted(map(len, gate.pieces)) == [1, 1] and gate.pieces[1] == ["next"]


def test_a_job_that_does_not_fit_into_the_queue_is_refused() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        job = await start(scheduler, gate, "a", "b", "c")
        with pytest.raises(OverloadedError, match="3 passages are waiting"):
            await scheduler.run(gate, items("d", "e"), client="client")
        gate.opened.set()
        assert await job == [1, 1, 1]

    run_with_scheduler(test, max_waiting=4)


def test_a_client_that_fills_the_queue_does_not_lock_others_out() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        greedy = await start(scheduler, gate, *"abcd", client="greedy")
        other = await start(scheduler, gate, "e", client="other")
        gate.opened.set()
        assert await asyncio.gather(greedy, other) == [[1, 1, 1, 1], [1]]

    run_with_scheduler(test, max_waiting=4)


def test_a_job_that_cannot_be_finished_in_time_is_refused_at_once() -> None:
    scheduler = Scheduler(max_waiting=1000, piece_seconds=0)
    gate = Gate()
    gate.opened.set()

    async def run() -> None:
        await scheduler.run(gate, [Item("a", cost=1e-9)])  # so each unit of cost is expected to take very long
        gate.opened.clear()
        gate.entered.clear()
        first = asyncio.create_task(scheduler.run(gate, items("a", "b"), seconds=1))  # accepted: nothing else waits
        await asyncio.to_thread(gate.entered.wait, 30)
        with pytest.raises(OverloadedError) as refusal:
            await scheduler.run(gate, items("c"), seconds=1)
        assert refusal.value.retry_after >= 1
        gate.opened.set()
        assert await first == [1, 1]

    asyncio.run(run())
    assert scheduler.close(seconds=30)


@pytest.mark.parametrize(("text", "error"), [("poison", ValueError), ("panic", ScoringError)])
def test_a_job_that_fails_fails_alone_and_the_thread_lives_on(text: str, error: type[Exception]) -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        jobs = [await start(scheduler, gate, text) for text in ("a", text, "ccc")]
        gate.opened.set()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert results[0] == [1] and results[2] == [3] and isinstance(results[1], error)
        assert await scheduler.run(gate, items("again")) == [5] and scheduler.is_alive

    run_with_scheduler(test)


def test_a_score_function_that_loses_results_is_an_error() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        gate.opened.set()
        with pytest.raises(RuntimeError, match="returned 0 results"):
            await scheduler.run(lambda texts: [], items("a", "b"))

    run_with_scheduler(test)


def test_closing_finishes_accepted_jobs_and_refuses_new_ones() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        job = await start(scheduler, gate, "aa")
        closing = asyncio.create_task(asyncio.to_thread(scheduler.close, seconds=30))
        while scheduler.is_alive:
            await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            await scheduler.run(gate, items("late"))
        gate.opened.set()
        assert await job == [2] and await closing

    run_with_scheduler(test)


def test_closing_ends_although_a_piece_does_not() -> None:
    async def test(scheduler: Scheduler, gate: Gate) -> None:
        job = await start(scheduler, gate, "aa")
        assert not await asyncio.to_thread(scheduler.close, seconds=0)
        with pytest.raises(ClosedError, match="stopped before"):
            await job

    gate, scheduler = Gate(), Scheduler(max_waiting=10)

    async def run() -> None:
        first = asyncio.create_task(scheduler.run(gate, items("first")))
        await asyncio.to_thread(gate.entered.wait, 30)
        await test(scheduler, gate)
        with pytest.raises(ClosedError):
            await first

    asyncio.run(run())
    gate.opened.set()
    assert scheduler.close(seconds=30)


def test_failures_and_items_that_cost_nothing_teach_no_false_speed() -> None:
    def score(values: list[str]) -> list[str]:
        for value in values:
            if value == "broken":
                raise ValueError("broken")
            threading.Event().wait(0.002 if value == "long" else 0.0)
        return values

    async def run() -> bool:
        await scheduler.run(score, [Item("long", 1.0)] * 100, client="a")
        for _ in range(12):
            with pytest.raises(ValueError, match="broken"):
                await scheduler.run(score, [Item("broken", 1.0)], client="a")
        await scheduler.run(score, [Item("empty", 1.0)] * 500, client="a")
        large = asyncio.ensure_future(scheduler.run(score, [Item("long", 1.0)] * 300, client="a"))
        await asyncio.sleep(0)
        await scheduler.run(score, [Item("small", 1.0)], client="b")
        return large.done()

    scheduler = Scheduler(max_waiting=10_000)
    assert not asyncio.run(run())  # the small job did not wait for all of the large one
    scheduler.close(seconds=10)


def test_a_client_s_many_jobs_delay_another_client_s_job_by_one_turn_only() -> None:
    def score(values: list[int]) -> list[int]:
        threading.Event().wait(0.01 * len(values))
        return values

    async def run() -> list[int]:
        await scheduler.run(score, [Item(1, 1.0)] * 150, client="a")  # the speed is known from now on
        flood = [asyncio.ensure_future(scheduler.run(score, [Item(1, 1.0)] * 100, client="a")) for _ in range(10)]
        await asyncio.sleep(0)
        result = await scheduler.run(score, [Item(2, 1.0)] * 100, client="b", seconds=5.0)
        for job in flood:
            job.cancel()
        return result

    scheduler = Scheduler(max_waiting=10_000)
    assert asyncio.run(run()) == [2] * 100
    scheduler.close(seconds=10)
