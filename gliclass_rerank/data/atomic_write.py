"""Write a file so that it is either there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; what was written takes ``path``'s place in the end, unless writing fails.

    Args:
        path: The file wanted; its folder exists.

    Raises:
        OSError: The file cannot be put in its place.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     wanted = pathlib.Path(folder) / "scores.json"
        ...     with atomic_write(wanted) as unfinished:
        ...         _ = unfinished.write_text("[1, 2]")
        ...     wanted.read_text()
        '[1, 2]'
    """
    unfinished = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")  # another writer has another one
    try:
        yield unfinished
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())  # so that after a power cut it is not there without its content
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
