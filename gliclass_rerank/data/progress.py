"""A progress bar for work of more than a few seconds; pipes and logs never see it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


@contextmanager
def progress_bar(name: str, total: float | None = None, *, delay: float = 2.0) -> Iterator[Callable[[int], None]]:
    """Show a count, a bar and the time left on standard error, if it is a terminal.

    Args:
        name: The text in front of the bar.
        total: The number of items; None if nobody knows it.
        delay: Seconds before the bar appears, so that short work shows none.

    Yields:
        A function to call with the number of items that were done since its last call.

    Example:
        >>> with progress_bar("counting", total=2) as advance:
        ...     advance(2)
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task(name, total=total)
    appear = threading.Timer(delay, bar.start)
    appear.daemon = True
    appear.start()
    try:
        yield partial(bar.advance, task)
    finally:
        appear.cancel()
        appear.join()  # otherwise the bar could appear after it was stopped
        bar.stop()


def progress(items: Iterable[T], name: str, *, total: float | None = None) -> Iterator[T]:
    """Iterate over items under a progress bar.

    Args:
        items: The items.
        name: The text in front of the bar.
        total: The number of items; None for their length, if they have one.

    Yields:
        The items.

    Example:
        >>> list(progress([1, 2], "counting"))
        [1, 2]
    """
    with progress_bar(name, len(items) if total is None and isinstance(items, Sized) else total) as advance:
        for item in items:
            yield item
            advance(1)
