"""BM25 keyword search with SQLite's FTS5, which comes with Python: a first stage to rerank."""

from __future__ import annotations

import re
import sqlite3
import threading
import unicodedata
from collections.abc import Iterable


class KeywordIndex:
    """An in-memory index that finds passages which share words with a query, ordered by BM25.

    Threads may share it.

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
        rows = ((i, _normalize(passage)) for i, passage in enumerate(passages))
        self._database.executemany("INSERT INTO passages(rowid, text) VALUES (?, ?)", rows)
        self._lock = threading.Lock()

    def search(self, query: str, *, top_k: int) -> list[int]:
        """Find passages that share a word with the query.

        Args:
            query: Words in any order; punctuation is ignored.
            top_k: The largest number of passages to return.

        Returns:
            Positions in the passages, best first.
        """
        words = sorted(set(re.findall(r"[^\W_]+", _normalize(query).lower())))
        if not words or top_k < 1:
            return []
        with self._lock:
            rows = self._database.execute(
                "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY rank, rowid LIMIT ?",
                (" OR ".join(f'"{word}"' for word in words), top_k),
            )
            return [row[0] for row in rows]


def _normalize(text: str) -> str:
    """Compose accents, which would split words, and replace lone surrogates, which SQLite refuses."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "replace").decode()
