"""A progress bar that stays out of pipes and logs."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Iterable[T], name: str, *, total: float | None = None) -> Iterable[T]:
    """Go through items under a bar on standard error, if that is a terminal.

    Args:
        items: What to go through.
        name: Stands before the bar.
        total: How many items, where they have no length.

    Example:
        >>> list(progress([1, 2], "counting"))
        [1, 2]
    """
    console = Console(stderr=True)
    total = len(items) if total is None and isinstance(items, Sized) else total
    return track(items, name, total=total, console=console, disable=not console.is_terminal)
