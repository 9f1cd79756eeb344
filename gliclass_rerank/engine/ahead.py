"""Do the next piece of work while the last one's result is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Map items in order; each but the first in another thread, while its predecessor's result is used.

    Where no thread can be had (the interpreter is shutting down, or there are too many), it waits its turn.

    Args:
        work: What to do with an item. An error is raised when its result is asked for.
        items: The items.

    Example:
        >>> list(ahead(str.upper, ["a", "b"]))
        ['A', 'B']
    """
    if not items:
        return
    result = work(items[0])
    if len(items) > 1:
        with ThreadPoolExecutor(max_workers=1) as pool:
            for item in items[1:]:
                try:
                    coming = pool.submit(work, item).result
                except RuntimeError:
                    coming = partial(work, item)
                yield result
                result = coming()
    yield result
