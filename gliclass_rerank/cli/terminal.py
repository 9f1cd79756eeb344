"""What all commands share: errors of one line, and text that is safe to show."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

errors = Console(stderr=True)
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # would turn a table's columns round


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn what can go wrong for a user into one line on standard error and exit status 2.

    Raises:
        typer.Exit: Something went wrong, and was said.

    Example:
        >>> with errors_in_one_line():
        ...     "all is well"
        'all is well'
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, RuntimeError, ImportError) as error:
        errors.print(Text(f"error: {printable(str(error), errors.encoding)}", style="red"), soft_wrap=True)
        raise typer.Exit(2) from error


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print what code inside warns of as notes, each once, when it is through.

    Example:
        >>> with warnings_as_notes():
        ...     "nothing to note"
        'nothing to note'
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        errors.print(Text(f"note: {printable(message, errors.encoding)}"), style="yellow", soft_wrap=True)


def printable(text: str, encoding: str) -> str:
    r"""The text on one line, as the terminal can show it, without characters that would steer the terminal.

    Args:
        text: Any text.
        encoding: The terminal's.

    Example:
        >>> printable("two\nlines, \x1b[2Jnaïve", "ascii")
        'two lines, [2Jna?ve'
    """
    line = "".join(c for c in " ".join(text.split()) if unicodedata.category(c) != "Cc" and c not in _DIRECTIONS)
    return line.encode(encoding, "replace").decode(encoding)
