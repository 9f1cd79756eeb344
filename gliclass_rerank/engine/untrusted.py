"""Read files that somebody may have crafted: what is too large or makes a library panic is a ``CheckpointError``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gliclass_rerank.errors import CheckpointError


def read_json(path: Path, *, max_bytes: int = 1 << 22, max_items: int = 400_000) -> dict[str, Any]:
    """Read a JSON object of bounded size.

    Args:
        path: The file.
        max_bytes: Its largest size.
        max_items: The largest number of brackets and commas in it: an empty object takes three bytes in the file
            and sixty in memory.

    Raises:
        CheckpointError: The file is missing, too large, or not a JSON object; the message names it.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing.")
    check_size(path, max_bytes)
    content = path.read_bytes()
    if sum(content.count(mark) for mark in (b"{", b"[", b",")) > max_items:
        raise CheckpointError(f"{path.name} has more than {max_items:,} items.")
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} is not a JSON object.")
    return value


def check_size(path: Path, max_bytes: int) -> None:
    """Refuse a file that is too large.

    Args:
        path: The file.
        max_bytes: Its largest size.

    Raises:
        CheckpointError: It is larger.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointError(f"{path.name} has {size:,} bytes, expected at most {max_bytes:,}.")


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn a panic of the tokenizers library into a ``CheckpointError``.

    A panic of a library written in Rust reaches Python as a BaseException, which no ``except Exception`` catches.

    Raises:
        CheckpointError: The library panicked.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"the tokenizers library cannot run this tokenizer.json: {error}.") from error
