"""Token ids of passages that were read before: a reranker sees the same passages again and again."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

_OVERHEAD = 64  # tokens that an entry counts for beyond its own, for what Python needs around it


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
        >>> cache.put("tea", 512, Encoded(array("i", [7, 8]), cut=False))
        >>> cache.get("tea", 512).ids.tolist(), cache.get("tea", 256)
        ([7, 8], None)
    """

    def __init__(self, most_tokens: int) -> None:
        self._left = most_tokens
        self._entries: OrderedDict[bytes, Encoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str, limit: int) -> Encoded | None:
        """What is known of a text.

        Args:
            text: The text.
            limit: How many of its tokens were kept at most.
        """
        key = _digest(text, limit)
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
        return found

    def put(self, text: str, limit: int, encoded: Encoded) -> None:
        """Keep what a text became.

        Args:
            text: The text.
            limit: How many of its tokens were kept at most.
            encoded: What it became.
        """
        key = _digest(text, limit)
        with self._lock:
            if key not in self._entries:
                self._entries[key] = encoded
                self._left -= len(encoded.ids) + _OVERHEAD
            while self._left < 0:
                _, dropped = self._entries.popitem(last=False)
                self._left += len(dropped.ids) + _OVERHEAD


def _digest(text: str, limit: int) -> bytes:
    # Not the text itself: a passage may be of any size.
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, salt=limit.to_bytes(8, "big")).digest()
