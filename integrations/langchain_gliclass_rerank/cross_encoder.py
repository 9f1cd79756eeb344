"""The reranker as LangChain's cross-encoder, for the stock ``CrossEncoderReranker``."""

from __future__ import annotations

import os

from langchain_core.cross_encoders import BaseCrossEncoder

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import LazyReranker
from gliclass_rerank.options import LongPassages, LongQueries
from gliclass_rerank.validation import Dtype


class GLiClassCrossEncoder(BaseCrossEncoder):
    """Scores (query, passage) pairs. The model is loaded at first use.

    Args:
        model: A hub name, a local folder, None for the bundled model, or a ready
            ``GLiClassReranker``, which has its own values of the other options.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that is present.
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_length: Tokens of query and passage together; None for the checkpoint's own value.
        long_passages: "truncate" cuts passages that do not fit; "windows" scores overlapping parts,
            of which the best counts.
        long_queries: "error" refuses a query that leaves no room for its passage; "truncate" cuts it.
        token_budget: Tokens computed together; None for what suits the device.
        revision: Branch, tag or commit on the hub.

    Raises:
        TypeError: An option is of the wrong type.
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
        long_queries: LongQueries = "error",
        token_budget: int | None = None,
        revision: str | None = None,
    ) -> None:
        self._reranker = LazyReranker(
            model,
            device=device,
            dtype=dtype,
            max_length=max_length,
            long_passages=long_passages,
            long_queries=long_queries,
            token_budget=token_budget,
            revision=revision,
        )

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Score pairs.

        Args:
            text_pairs: The (query, passage) pairs.

        Returns:
            One score in [0, 1] per pair, in input order.

        Raises:
            TypeError: An item is not a pair of two str.
            ValueError: A query is empty or leaves no room for its passage.
        """
        return self._reranker.load().score_pairs(text_pairs) if text_pairs else []
