"""One thread runs the model for all requests, in short pieces that waiting jobs take in turn.

Otherwise a request with two passages could wait a minute behind one with 2,000. So each request becomes a job, and
jobs are cut into pieces that take a fixed time. The next piece goes to the client that has used the model least and,
among that client's jobs, to the one that has used it least. Small jobs share a piece.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Score = Callable[[list[Any]], Sequence[Any]]  # items in, one result per item out

_PIECE_SECONDS = 0.05  # how long one piece may keep the other jobs waiting
_PIECES_TO_KNOW = 20  # the speed of a score function counts as known after so many full pieces
_DRIFT = 1.05  # the best speed so far may get slower by this factor after each slower piece
_MIN_TRUST = 0.1  # weight of the speed measured in a piece that took almost no time
_SAFETY = 0.8  # a job is accepted if it should finish within this share of its time limit


class OverloadedError(Exception):
    """The queue is too full to accept this job.

    Args:
        message: How much work is waiting.
        retry_after: In how many seconds it is worth trying again.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClosedError(Exception):
    """The scheduler accepts no more jobs, because the server is stopping."""


class ScoringError(RuntimeError):
    """The model failed with something that is not an Exception, such as a panic in a native library."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to score.

    Attributes:
        value: What the score function receives.
        cost: Expected work, in any unit that all items of one score function share.
        weight: How many places in the queue it takes.
    """

    value: Any
    cost: float = 1.0
    weight: int = 1


@dataclass(eq=False)
class _Client:
    """The jobs of one client, and for how many seconds it has used the model."""

    used: float
    jobs: list[_Job] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        return sum(job.waiting for job in self.jobs)


@dataclass(eq=False)
class _Job:
    """Items that one request waits for. ``pending`` has the indexes still to be scored; the next one is the last."""

    client: Hashable
    score: Score
    items: Sequence[Item]
    pending: list[int]
    waiting: int  # total weight of the pending items
    pending_cost: float
    used: float = 0.0  # seconds for which it has used the model
    seconds_per_cost: float | None = None
    results: dict[int, Any] = field(default_factory=dict)
    future: Future[list[Any]] = field(default_factory=Future)


_Piece = list[tuple[_Job, list[int]]]


class Scheduler:
    """Accepts jobs from an event loop and runs them in a thread of its own.

    A cancelled job is dropped before the next piece. If a job fails, the other jobs in its piece are scored again
    without it.

    Args:
        max_waiting: Total weight of the items that may wait. A single larger job is accepted if the queue is empty.
            If the queue is full, a client that holds less than its share of it is still accepted, up to twice the
            limit.
        piece_seconds: How long a piece should take; its size is chosen by the measured time per unit of cost.

    Example:
        >>> scheduler = Scheduler(max_waiting=100)
        >>> items = [Item("Rain."), Item("Tea")]
        >>> asyncio.run(scheduler.run(lambda texts: [len(text) for text in texts], items))
        [5, 3]
        >>> scheduler.close(seconds=5)
        True
    """

    def __init__(self, *, max_waiting: int, piece_seconds: float = _PIECE_SECONDS) -> None:
        self._max_waiting, self._piece_seconds = max_waiting, piece_seconds
        self._clients: dict[Hashable, _Client] = {}
        self._seconds_per_cost: dict[Score, float] = {}
        self._fastest: dict[Score, float] = {}  # the fewest seconds per unit of cost so far
        self._measured: dict[Score, float] = defaultdict(float)  # seconds that the function has run
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Total weight of the items that wait for a piece."""
        with self._changed:
            return self._count_waiting()

    @property
    def is_alive(self) -> bool:
        """Whether jobs are accepted and run."""
        return self._thread.is_alive() and not self._is_closed

    async def run(
        self, score: Score, items: Sequence[Item], *, client: Hashable = None, seconds: float | None = None
    ) -> list[Any]:
        """Run a job and return its results.

        Args:
            score: Called in the model's thread with the values of some items; it returns one result per value.
                Jobs with an equal function can share pieces.
            items: The items.
            client: Whose job it is. Clients get equal shares of the model, and so do the jobs of one client.
            seconds: How long the caller is going to wait. A job that would take longer, given the jobs that are
                waiting, is refused at once instead of using the model for nothing. None to wait forever.

        Returns:
            One result per item, in order.

        Raises:
            ClosedError: The server is stopping.
            OverloadedError: Too many passages are waiting, or the job would not be finished in time.
            Exception: Anything that ``score`` raises for these items.
        """
        if not items:
            return []
        # Items of similar cost run together, which saves padding; the cheapest come first.
        pending = sorted(range(len(items)), key=lambda i: (items[i].cost, i), reverse=True)
        weight, cost = sum(item.weight for item in items), sum(item.cost for item in items)
        job = _Job(client, score, items, pending, weight, cost)
        self._submit(job, seconds)
        try:
            return await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            with self._changed:
                self._remove(job)
            raise

    def close(self, *, seconds: float) -> bool:
        """Accept no more jobs, finish the accepted ones if there is time, and stop the thread.

        Args:
            seconds: How long to wait. Jobs that are not finished by then fail with ``ClosedError``.

        Returns:
            Whether the thread has ended. If not, it is still working on a piece.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            for job in [job for client in self._clients.values() for job in client.jobs]:
                self._fail(job, ClosedError("the server stopped before this request was finished."))
        return not self._thread.is_alive()

    # Methods that hold the lock, or are called while it is held

    def _submit(self, job: _Job, seconds: float | None) -> None:
        with self._changed:
            if self._is_closed:
                raise ClosedError("the server is stopping.")
            self._check_room(job)
            self._check_time(job, seconds)
            client = self._clients.get(job.client)
            if client is None:
                client = _Client(min((other.used for other in self._clients.values()), default=0.0))
                self._clients[job.client] = client
            job.used = min((other.used for other in client.jobs), default=0.0)
            client.jobs.append(job)
            job.future.set_running_or_notify_cancel()  # so that a late result meets no cancelled future
            self._changed.notify()

    def _check_room(self, job: _Job) -> None:
        waiting = self._count_waiting()
        if not waiting or waiting + job.waiting <= self._max_waiting:
            return
        client = self._clients.get(job.client)
        clients = len(self._clients) + (client is None)
        own = job.waiting + (client.waiting if client else 0)
        if own > self._max_waiting / clients or waiting + job.waiting > 2 * self._max_waiting:
            raise OverloadedError(f"{waiting} passages are waiting already.")

    def _check_time(self, job: _Job, limit: float | None) -> None:
        if limit is None or not self._clients:
            return
        # Clients take equal turns, and so do the jobs of one client. So another job can delay this one by at most the
        # time that this one needs itself.
        needed = self._seconds_left(job)
        own = self._clients.get(job.client)
        own_jobs = own.jobs if own else []
        own_turns = needed + sum(min(self._seconds_left(other), needed) for other in own_jobs)
        others = [client for client in self._clients.values() if client is not own]
        delay = sum(min(sum(map(self._seconds_left, client.jobs)), own_turns) for client in others)
        late = own_turns + delay - _SAFETY * limit
        if late > 0:
            waiting = own_turns + delay - needed
            raise OverloadedError(f"{needed:.0f} s of work beside {waiting:.0f} s that wait.", max(1.0, late))

    def _seconds_left(self, job: _Job) -> float:
        """Return how long a job's pending items take at the best speed so far; 0 while that is unknown.

        A model's first passes are slow, and tiny passes are slow for their cost, so the speed counts as known only
        after some pieces.
        """
        if self._measured[job.score] < _PIECES_TO_KNOW * self._piece_seconds:
            return 0.0
        return job.pending_cost * self._fastest.get(job.score, 0.0)

    def _count_waiting(self) -> int:
        return sum(client.waiting for client in self._clients.values())

    def _remove(self, job: _Job) -> None:
        client = self._clients.get(job.client)
        if client is not None and job in client.jobs:
            client.jobs.remove(job)
            if not client.jobs:
                del self._clients[job.client]

    def _fail(self, job: _Job, error: BaseException) -> None:
        self._remove(job)
        if not job.future.done():
            job.future.set_exception(error)

    def _in_order(self) -> list[_Job]:
        """Return the jobs with pending items: first those of the client that has used the model least, and so on.

        A client's jobs are ordered in the same way; on a tie, the older one comes first.
        """
        clients = sorted(self._clients.values(), key=lambda client: client.used)
        return [job for client in clients for job in sorted(client.jobs, key=lambda job: job.used) if job.pending]

    def _take_piece(self) -> _Piece:
        """Wait for work, and take the items of the next piece: at least one, from several jobs if there is room."""
        with self._changed:
            while not (jobs := self._in_order()):
                if self._is_closed:
                    return []
                self._changed.wait()
            score, room = jobs[0].score, self._piece_seconds
            piece: _Piece = []
            for job in jobs:
                if job.score != score:
                    continue
                indexes, room = self._take_items(job, room, at_least_one=not piece)
                if indexes:
                    piece.append((job, indexes))
                if room <= 0:
                    break
            return piece

    def _take_items(self, job: _Job, room: float, *, at_least_one: bool) -> tuple[list[int], float]:
        """Take the next items of a job that fit into some seconds.

        Returns their indexes and the seconds left: 0 if an item did not fit.
        """
        pace = job.seconds_per_cost or self._seconds_per_cost.get(job.score)
        chosen: list[int] = []
        while job.pending:
            item = job.items[job.pending[-1]]
            seconds = math.inf if pace is None else pace * item.cost
            if seconds > room and (chosen or not at_least_one):
                return chosen, 0.0
            room -= seconds
            chosen.append(job.pending.pop())
            job.waiting -= item.weight
            job.pending_cost -= item.cost
        return chosen, room

    # In the thread

    def _work(self) -> None:
        while piece := self._take_piece():
            start = time.perf_counter()
            succeeded = self._run(piece)
            self._charge(piece, time.perf_counter() - start, learn=succeeded)

    def _run(self, piece: _Piece) -> bool:
        """Score a piece; returns whether all of it succeeded."""
        score = piece[0][0].score
        values = [job.items[i].value for job, indexes in piece for i in indexes]
        try:
            results = list(score(values))
            if len(results) != len(values):
                raise RuntimeError(f"the score function returned {len(results)} results for {len(values)} items.")
        except BaseException as error:  # a panic of a native library is not an Exception, and must not end the thread
            if len(piece) > 1:
                outcomes = [self._run([part]) for part in piece]
                return all(outcomes)
            with self._changed:
                self._fail(piece[0][0], error if isinstance(error, Exception) else _scoring_error(error))
            return False
        with self._changed:
            remaining = iter(results)
            for job, indexes in piece:
                job.results.update((i, next(remaining)) for i in indexes)
                if len(job.results) == len(job.items) and not job.future.done():
                    self._remove(job)
                    job.future.set_result([job.results[i] for i in range(len(job.items))])
        return True

    def _charge(self, piece: _Piece, seconds: float, *, learn: bool) -> None:
        """Note what each job and client has used and, from a piece that succeeded, how long a unit of cost takes."""
        costs = [sum(job.items[i].cost for i in indexes) for job, indexes in piece]
        total = sum(costs) or 1.0
        pace = seconds / total
        score = piece[0][0].score
        # A piece that took almost no time, such as one of empty passages, says little about the speed of others.
        trust = 1.0 if seconds >= self._piece_seconds else max(_MIN_TRUST, seconds / self._piece_seconds)
        by_client: dict[Hashable, float] = defaultdict(float)
        with self._changed:
            usual_pace = self._seconds_per_cost.get(score)
            for (job, _), cost in zip(piece, costs, strict=True):
                job.used += pace * cost
                if learn:
                    job.seconds_per_cost = _blend(job.seconds_per_cost or usual_pace, pace, trust)
                by_client[job.client] += pace * cost
            for name, used in by_client.items():
                if name in self._clients:
                    self._clients[name].used += used
            if learn:
                self._measured[score] += seconds
                fastest = self._fastest.get(score, pace)
                self._fastest[score] = min(pace, fastest * _DRIFT) if pace > fastest else _blend(fastest, pace, trust)
                self._seconds_per_cost[score] = _blend(usual_pace, pace, trust)


def _blend(old: float | None, new: float, trust: float) -> float:
    """Move an estimate towards a new value, at most half of the way."""
    return new if old is None else old + trust * (new - old) / 2


def _scoring_error(error: BaseException) -> ScoringError:
    wrapped = ScoringError(f"the model failed: {type(error).__name__}.")
    wrapped.__cause__ = error
    return wrapped
