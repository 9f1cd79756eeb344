"""LangChain's cross-encoder interface, for the stock ``CrossEncoderReranker``."""

from __future__ import annotations

import os

from langchain_core.cross_encoders import BaseCrossEncoder

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import LazyReranker
from gliclass_rerank.options import LongPassages
from gliclass_rerank.validation import Dtype


class GLiClassCrossEncoder(BaseCrossEncoder):
    """Scores pairs of query and passage. The model is loaded at first use.

    Args:
        model: See ``GLiClassRerank``.
        device: See there.
        dtype: See there.
        max_length: See there.
        long_passages: See there.
        revision: See there.

    Raises:
        TypeError: An option is of another type.
        ValueError: An option is out of range.

    Example:
        >>> low, high = GLiClassCrossEncoder().score([("tea", "Rain falls."), ("tea", "Tea is brewed.")])
        >>> low < high
        True
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | GLiClassReranker | None = None,
        *,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        long_passages: LongPassages = "truncate",
        revision: str | None = None,
    ) -> None:
        self._reranker = LazyReranker(
            model, device=device, dtype=dtype, max_length=max_length, long_passages=long_passages, revision=revision
        )

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Score pairs.

        Args:
            text_pairs: Queries, each with a passage.

        Returns:
            One score in [0, 1] per pair, in input order.

        Raises:
            ValueError: A query is empty or leaves no room for its passage.
        """
        return self._reranker.load().score_pairs(text_pairs) if text_pairs else []
