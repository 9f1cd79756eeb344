"""Shared by all commands: one-line errors, notes, streamed JSON, and text that is safe to show on a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from gliclass_rerank.data.passage_files import PassageFiles, SourcedPassage
from gliclass_rerank.data.progress import progress_bar

errors = Console(stderr=True)
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # would reverse the columns of a table


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Print an expected error as one line on standard error and exit with status 2.

    Raises:
        typer.Exit: There was an error, and it was printed.

    Example:
        >>> with errors_in_one_line():
        ...     "no error"
        'no error'
    """
    try:
        yield
    except BrokenPipeError:  # the reader of a pipe has enough, as "head" does
        raise
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, RuntimeError, ImportError) as error:
        message = str(error) or type(error).__name__
        errors.print(Text(f"error: {printable(message, errors.encoding)}", style="red"), soft_wrap=True)
        raise typer.Exit(2) from error


def print_note(message: str) -> None:
    """Print a note on standard error.

    Args:
        message: The note, which may hold text of files.

    Example:
        >>> print_note("3 passages were cut")  # on standard error
    """
    errors.print(Text(f"note: {printable(message, errors.encoding)}", style="yellow"), soft_wrap=True)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print each different warning of the block once, as a note, when the block ends.

    Example:
        >>> with warnings_as_notes():
        ...     "no warning"
        'no warning'
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print_note(message)


def write_json_array(items: Iterable[dict[str, Any]]) -> None:
    """Write a JSON array to standard output item by item, so that it may be larger than memory.

    Args:
        items: The items.

    Example:
        >>> write_json_array([{"rank": 1}, {"rank": 2}])
        [
        {"rank": 1},
        {"rank": 2}
        ]
    """
    separator = "["
    for item in items:
        sys.stdout.write(f"{separator}\n{json.dumps(item)}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def printable(text: str, encoding: str) -> str:
    r"""Put text on one line that the terminal can show, without characters that control the terminal.

    Args:
        text: Any text.
        encoding: The terminal's encoding.

    Example:
        >>> printable("two\nlines, \x1b[2Jnaïve", "ascii")
        'two lines, [2Jna?ve'
    """
    line = "".join(c for c in " ".join(text.split()) if unicodedata.category(c) != "Cc" and c not in _DIRECTIONS)
    return line.encode(encoding, "replace").decode(encoding)


def read_in_blocks(passages: PassageFiles, name: str, size: int) -> Iterator[list[SourcedPassage]]:
    """Read passages block by block under a progress bar.

    Args:
        passages: The passages.
        name: The text in front of the bar.
        size: Passages per block.

    Yields:
        Up to ``size`` passages.

    Example:
        >>> list(read_in_blocks(PassageFiles(["/dev/null"]), "ranking", 64))
        []
    """
    with progress_bar(name, len(passages)) as advance:
        remaining = iter(passages)
        while block := list(islice(remaining, size)):
            yield block
            advance(len(block))


def block_size(device: str) -> int:
    """How many passages to score at a time.

    Args:
        device: The model's device.

    Returns:
        Enough for full batches, and few enough that a progress bar moves every few seconds.

    Example:
        >>> block_size("cpu"), block_size("cuda:0")
        (128, 4096)
    """
    return 128 if device == "cpu" else 4096
