"""Write a file completely or not at all, so that a crash never leaves half of one behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; its file replaces ``path`` if the block ends without an error.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        The path to write to.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scores = pathlib.Path(folder) / "scores.json"
        ...     with atomic_write(scores) as unfinished:
        ...         _ = unfinished.write_text("[1, 2]")
        ...     scores.read_text()
        '[1, 2]'
    """
    unfinished = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")  # two writers never share one
    try:
        yield unfinished
        with unfinished.open("r+b") as written:  # Windows flushes only a file that is open for writing
            os.fsync(written.fileno())  # a power cut must not leave the name without the content
        unfinished.replace(path)
    except Exception as error:
        # Not by errno: Arrow and safetensors raise errors of their own, with the system's message inside.
        if os.strerror(errno.ENOSPC) in str(error):
            message = f"the disk is full, so {path} was not written. Free some space and run this again"
            raise OSError(errno.ENOSPC, message) from error
        raise
    finally:
        unfinished.unlink(missing_ok=True)
