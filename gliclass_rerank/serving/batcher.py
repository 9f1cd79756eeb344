"""One thread runs the model for all requests; what waits is scored in common batches, and there is an end to it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Pair = tuple[str, str]  # query and passage

_CHARACTERS = 4000  # of a passage that counts for one; a longer one counts for more


class OverloadedError(Exception):
    """So much is waiting that no more is taken."""


class ClosedError(Exception):
    """No more is taken, since the server is going down."""


@dataclass(eq=False)
class _Job:
    """Pairs to be scored, or something else that needs the model."""

    pairs: Sequence[Pair]
    call: Callable[[], Any] | None
    weight: int  # how many passages it counts for
    abandoned: bool = False  # nobody waits for it any more
    result: Future[Any] = field(default_factory=Future)


class Batcher:
    """Takes work from an event loop and does it in a thread of its own.

    A job that is cancelled before its turn is dropped, and a long one during its turn at the next
    piece. One that fails fails alone: its neighbours in the batch are scored without it.

    Args:
        score_pairs: Scores pairs of different queries, for instance ``GLiClassReranker.score_pairs``.
        most_waiting: How many passages wait at most, a long one counting for more; a single larger job is taken
            when nothing else waits.
        batch: How many passages of several jobs, or of a long one, are scored at a time.

    Example:
        >>> batcher = Batcher(lambda pairs: [float(len(passage)) for _, passage in pairs], most_waiting=100)
        >>> asyncio.run(batcher.score("tea", ["Rain.", "Tea"]))
        [5.0, 3.0]
        >>> batcher.close()
    """

    def __init__(
        self, score_pairs: Callable[[list[Pair]], list[float]], *, most_waiting: int, batch: int = 256
    ) -> None:
        self._score_pairs, self._most_waiting, self._batch = score_pairs, most_waiting, batch
        self._jobs: deque[_Job] = deque()
        self._waiting = 0  # passages
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many passages wait, a long one counting for more."""
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
        scores: list[float] = await self._submit(_Job(pairs, None, sum(map(_weight, pairs))))
        return scores

    async def run(self, call: Callable[[], Any], weight: int = 1) -> Any:  # noqa: ANN401 - what the call gives
        """The result of a call that needs the model, made in the model's thread.

        Args:
            call: What to call.
            weight: How many passages it counts for.

        Raises:
            ClosedError: The server is going down.
            OverloadedError: Too much is waiting.
            Exception: Whatever the call raises.
        """
        return await self._submit(_Job((), call, weight))

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
        try:
            return await asyncio.wrap_future(job.result)
        except asyncio.CancelledError:
            self._abandon(job)
            raise

    def _abandon(self, job: _Job) -> None:
        with self._changed:
            job.abandoned = True
            if job in self._jobs:
                self._jobs.remove(job)
                self._waiting -= job.weight

    def _work(self) -> None:
        while jobs := self._take():
            # From here on a job cannot be cancelled any more, only abandoned.
            live = [job for job in jobs if job.result.set_running_or_notify_cancel()]
            scoring = [job for job in live if job.call is None]
            if len(scoring) == 1 or not self._score_together(scoring):
                for job in scoring:
                    _finish(job, lambda job=job: self._score_alone(job))  # type: ignore[misc]
            for job in live:
                if job.call is not None:
                    _finish(job, job.call)

    def _take(self) -> list[_Job]:
        """The next jobs: one of any size, or some that fit into a batch; none when no more will come."""
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

    def _score_together(self, jobs: list[_Job]) -> bool:
        """Score jobs in one batch; False, and nothing done, where one of them is to blame for an error."""
        pairs = [pair for job in jobs for pair in job.pairs]
        try:
            scores = iter(self._score_pairs(pairs) if pairs else ())
        except Exception:
            return False
        for job in jobs:
            job.result.set_result([next(scores) for _ in job.pairs])
        return True

    def _score_alone(self, job: _Job) -> list[float]:
        scores: list[float] = []
        for piece in self._pieces(job.pairs):
            if job.abandoned:
                return scores  # for nobody
            scores += self._score_pairs(piece)
        return scores

    def _pieces(self, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
        """The pairs in order, as many at a time as make a batch."""
        piece: list[Pair] = []
        size = 0
        for pair in pairs:
            if piece and size + _weight(pair) > self._batch:
                yield piece
                piece, size = [], 0
            piece.append(pair)
            size += _weight(pair)
        if piece:
            yield piece


def _weight(pair: Pair) -> int:
    return 1 + len(pair[1]) // _CHARACTERS


def _finish(job: _Job, call: Callable[[], Any]) -> None:
    try:
        job.result.set_result(call())
    except Exception as error:
        job.result.set_exception(error)
