"""A first stage to rerank: BM25 search by SQLite's FTS5, which Python brings along."""

from __future__ import annotations

import re
import sqlite3
import threading
import unicodedata
from collections.abc import Iterable


class KeywordIndex:
    """Finds passages that share words with a query, in memory, in the order of BM25.

    Args:
        passages: The passages to search.

    Raises:
        sqlite3.OperationalError: Python's SQLite was built without FTS5.

    Example:
        >>> KeywordIndex(["a red apple", "blue sky", "a green apple"]).search("which apples are green?", top_k=1)
        [2]
    """

    def __init__(self, passages: Iterable[str]) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute("CREATE VIRTUAL TABLE passages USING fts5(text, tokenize = 'porter')")
        rows = ((i, _valid(passage)) for i, passage in enumerate(passages))
        self._database.executemany("INSERT INTO passages(rowid, text) VALUES (?, ?)", rows)
        self._lock = threading.Lock()

    def search(self, query: str, *, top_k: int) -> list[int]:
        """Positions of the passages that share a word with the query, best first, at most ``top_k``."""
        words = sorted(set(re.findall(r"[^\W_]+", _valid(query).lower())))
        if not words or top_k < 1:
            return []
        with self._lock:
            rows = self._database.execute(
                "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY rank, rowid LIMIT ?",
                (" OR ".join(f'"{word}"' for word in words), top_k),
            )
            return [row[0] for row in rows]


def _valid(text: str) -> str:
    """Accents as part of their letter, since apart they part words, and no lone surrogate, which SQLite refuses."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "replace").decode()
