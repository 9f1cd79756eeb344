"""The options of a reranker or classifier: plain values that make an equal one, here or in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gliclass_rerank.validation import Dtype, check_choice, check_count, check_dtype

LongPassages = Literal["truncate", "windows"]
LongQueries = Literal["error", "truncate"]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model to load, and how to run it.

    Attributes:
        model: A hub name or a local folder; None for the bundled model.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that is present.
        dtype: "auto" for bf16 where the hardware runs it fast and fp32 elsewhere; or "float32",
            "bfloat16", "float16".
        max_length: Tokens per sequence, query and passage together; None for the smallest of the
            encoder's positions, the tokenizer's limit and 1024.
        revision: Branch, tag or commit on the hub.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.

    Example:
        >>> ModelOptions(device="cpu").dtype
        'auto'
    """

    model: str | None = None
    device: str | None = None
    dtype: Dtype = "auto"
    max_length: int | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        check_count("max_length", self.max_length)


@dataclass(frozen=True, slots=True)
class RerankerOptions(ModelOptions):
    """``ModelOptions``, and how a reranker handles what does not fit.

    Attributes:
        long_passages: "truncate" cuts a passage that does not fit; "windows" scores overlapping parts of
            it, of which the best counts.
        long_queries: "error" refuses a query that leaves no room for a passage; "truncate" cuts it so
            that it leaves half of ``max_length``.
        token_budget: Tokens computed together; None for what suits the device.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.

    Example:
        >>> RerankerOptions(device="cpu").long_passages
        'truncate'
    """

    long_passages: LongPassages = "truncate"
    long_queries: LongQueries = "error"
    token_budget: int | None = None

    def __post_init__(self) -> None:
        ModelOptions.__post_init__(self)  # slots rule out super()
        check_choice("long_passages", self.long_passages, get_args(LongPassages))
        check_choice("long_queries", self.long_queries, get_args(LongQueries))
        check_count("token_budget", self.token_budget)
