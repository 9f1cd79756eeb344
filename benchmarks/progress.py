"""A progress bar that stays out of pipes and logs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Iterable[T], name: str) -> Iterable[T]:
    """Go through items under a bar on standard error, if that is a terminal."""
    console = Console(stderr=True)
    return track(items, name, console=console, disable=not console.is_terminal)
