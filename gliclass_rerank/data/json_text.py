"""Parse JSON and refuse bytes that are not UTF-8, so that an error names the file and the way out."""

from __future__ import annotations

import json
import os
from typing import Any


def parse_json(text: str, place: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON.

    Args:
        text: The JSON.
        place: The file, or file and line, for the error.

    Returns:
        The parsed value.

    Raises:
        ValueError: It is not JSON; the message names the place.

    Example:
        >>> parse_json('{"text":', "a:7")
        Traceback (most recent call last):
        ValueError: a:7 is not JSON: Expecting value: line 1 column 9 (char 8). If it was cut short, write it again.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error}. If it was cut short, write it again.") from error


def not_utf8(path: str | os.PathLike[str], error: UnicodeDecodeError) -> ValueError:
    """The error for a file that is not UTF-8.

    Args:
        path: The file.
        error: What reading it raised.
    """
    return ValueError(f"{os.fspath(path)} is not UTF-8 text ({error}). Convert it first.")
