"""Token ids of passages that were read before: a reranker sees the same passages again and again."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

_OVERHEAD = 90  # tokens that an entry counts for beyond its own, for what Python needs around it

Key = tuple[bytes, int]


class Encoded(NamedTuple):
    """A text's token ids, and whether the text goes on behind them."""

    ids: array[int]
    cut: bool


class TokenCache:
    """A bounded cache; threads may share it. What was not used for longest is dropped first.

    Args:
        most_tokens: How many tokens it holds at most; four bytes each.

    Example:
        >>> cache = TokenCache(most_tokens=1000)
        >>> cache.put(key_of("tea", 512), Encoded(array("i", [7, 8]), cut=False))
        >>> cache.get(key_of("tea", 512)).ids.tolist(), cache.get(key_of("tea", 256))
        ([7, 8], None)
    """

    def __init__(self, most_tokens: int) -> None:
        self._most = self._left = most_tokens
        self._entries: OrderedDict[Key, Encoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Encoded | None:
        """What is known of a text, by its ``key_of``."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
        return found

    def put(self, key: Key, encoded: Encoded) -> None:
        """Keep what the text of a ``key_of`` became, unless it alone is more than the cache holds."""
        size = _size(encoded)
        with self._lock:
            if key in self._entries or size > self._most:
                return
            self._entries[key] = encoded
            self._left -= size
            while self._left < 0:
                _, dropped = self._entries.popitem(last=False)
                self._left += _size(dropped)


def key_of(text: str, limit: int) -> Key:
    """What a text is kept under: not the text itself, which may be long.

    Args:
        text: The text.
        limit: How many of its tokens are kept at most.
    """
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest(), limit


def _size(encoded: Encoded) -> int:
    return len(encoded.ids) + _OVERHEAD
