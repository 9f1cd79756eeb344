"""Run each call while its caller still uses the result of the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def prefetch_results(calls: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of some calls, in order; each call but the first runs while the caller uses the result before.

    Args:
        calls: What to run, one at a time.

    Raises:
        BaseException: What a call raises, where its result is due.

    Example:
        >>> list(prefetch_results([lambda: 1, lambda: 2]))
        [1, 2]
    """
    if not calls:
        return
    result = calls[0]()
    for call in calls[1:]:
        background = _BackgroundCall(call)
        yield result
        result = background.result()
    yield result


class _BackgroundCall(Generic[T]):
    """A call in a thread of its own: an executor would refuse it while the interpreter ends."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gliclass-tokenize", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # raised again where the result is due
            self._error = error

    def result(self) -> T:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]
