"""What a reranker or a classifier was made from: plain values that make an equal one, here or in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gliclass_rerank.validation import Dtype

LongPassages = Literal["truncate", "windows"]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, and how it runs.

    Attributes:
        model: A hub name or a local folder, as it was given; None for the model inside this package.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that is there.
        dtype: "auto" for bf16 where the hardware runs it fast and fp32 elsewhere; or "float32",
            "bfloat16", "float16".
        max_length: Tokens per sequence, query and passage together; None for the smallest of the
            encoder's positions, the tokenizer's limit and 1024.
        revision: Branch, tag or commit on the hub.

    Example:
        >>> ModelOptions(device="cpu").dtype
        'auto'
    """

    model: str | None = None
    device: str | None = None
    dtype: Dtype = "auto"
    max_length: int | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class RerankerOptions(ModelOptions):
    """The same of a reranker.

    Attributes:
        long_passages: "truncate" to cut a passage that does not fit; "windows" to score overlapping
            parts of it, of which the best counts.

    Example:
        >>> RerankerOptions(device="cpu").long_passages
        'truncate'
    """

    long_passages: LongPassages = "truncate"
