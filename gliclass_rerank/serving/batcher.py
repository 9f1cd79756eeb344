"""One thread runs the model for all requests; what waits is scored in common batches, and there is an end to it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Pair = tuple[str, str]  # query and passage


class OverloadedError(Exception):
    """So much is waiting that no more is taken."""


class ClosedError(Exception):
    """No more is taken, since the server is going down."""


@dataclass(frozen=True)
class _Job:
    """Pairs to be scored, or something else that needs the model."""

    pairs: Sequence[Pair]
    call: Callable[[], Any] | None
    weight: int  # how many pairs it counts for
    result: Future[Any] = field(default_factory=Future)


class Batcher:
    """Takes work from an event loop and does it in a thread of its own.

    A job that is cancelled before its turn is dropped. One that fails fails alone: its neighbours in
    the batch are scored without it.

    Args:
        score_pairs: Scores pairs of different queries, for instance ``GLiClassReranker.score_pairs``.
        most_waiting: How many pairs wait at most; a single larger job is taken when nothing else waits.
        batch: How many pairs of several jobs are scored together at most.

    Example:
        >>> batcher = Batcher(lambda pairs: [float(len(passage)) for _, passage in pairs])
        >>> asyncio.run(batcher.score("tea", ["Rain.", "Tea"]))
        [5.0, 3.0]
        >>> batcher.close()
    """

    def __init__(
        self, score_pairs: Callable[[list[Pair]], list[float]], *, most_waiting: int = 4096, batch: int = 256
    ) -> None:
        self._score_pairs, self._most_waiting, self._batch = score_pairs, most_waiting, batch
        self._jobs: deque[_Job] = deque()
        self._waiting = 0  # pairs
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many pairs wait."""
        return self._waiting

    @property
    def alive(self) -> bool:
        """Whether work is taken and done."""
        return self._thread.is_alive() and not self._closed

    async def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """One score per passage.

        Args:
            query: The query.
            passages: The passages.

        Raises:
            ClosedError: The server is going down.
            OverloadedError: Too much is waiting.
            Exception: Whatever ``score_pairs`` raises for these.
        """
        pairs = [(query, passage) for passage in passages]
        scores: list[float] = await self._submit(_Job(pairs, None, max(len(pairs), 1)))
        return scores

    async def run(self, call: Callable[[], Any], weight: int = 1) -> Any:  # noqa: ANN401 - what the call gives
        """The result of a call that needs the model, made in the model's thread.

        Args:
            call: What to call.
            weight: How many pairs it counts for.

        Raises:
            ClosedError: The server is going down.
            OverloadedError: Too much is waiting.
            Exception: Whatever the call raises.
        """
        return await self._submit(_Job((), call, max(weight, 1)))

    def close(self) -> None:
        """Take no more, finish what was taken, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    async def _submit(self, job: _Job) -> Any:  # noqa: ANN401 - scores, or what a call gives
        with self._changed:
            if self._closed:
                raise ClosedError("the server is going down.")
            if self._waiting and self._waiting + job.weight > self._most_waiting:
                raise OverloadedError(f"{self._waiting} passages are waiting already.")
            self._jobs.append(job)
            self._waiting += job.weight
            self._changed.notify()
        return await asyncio.wrap_future(job.result)  # cancelled, it cancels the job

    def _work(self) -> None:
        while jobs := self._take():
            # From here on a job cannot be cancelled any more.
            live = [job for job in jobs if job.result.set_running_or_notify_cancel()]
            self._do(live)

    def _take(self) -> list[_Job]:
        """The next jobs; none when all is done and no more will come."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            taken: list[_Job] = []
            size = 0
            while self._jobs and (not taken or size + self._jobs[0].weight <= self._batch):
                taken.append(self._jobs.popleft())
                size += taken[-1].weight
            self._waiting -= size
            return taken

    def _do(self, jobs: list[_Job]) -> None:
        scoring = [job for job in jobs if job.call is None]
        try:
            scores = iter(self._score_pairs([pair for job in scoring for pair in job.pairs]))
        except Exception as error:
            if len(scoring) == 1:
                scoring[0].result.set_exception(error)
            else:  # one of them is to blame
                for job in scoring:
                    self._do([job])
        else:
            for job in scoring:
                job.result.set_result([next(scores) for _ in job.pairs])
        for job in jobs:
            if job.call is not None:
                try:
                    job.result.set_result(job.call())
                except Exception as error:
                    job.result.set_exception(error)
