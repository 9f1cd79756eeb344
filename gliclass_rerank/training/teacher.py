"""A sentence encoder as teacher: how alike it finds questions and passages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gliclass_rerank.training.encoders import encode


@dataclass(frozen=True, slots=True)
class Teacher:
    """Vectors of length 1, one per passage and one per question, whose products are similarities."""

    passages: Tensor
    questions: Tensor

    def similarities(self, passages: Sequence[int], questions: Sequence[int]) -> list[list[float]]:
        """The cosine of each of some passages (rows) and each of some questions (columns)."""
        rows: list[list[float]] = (self.passages[list(passages)] @ self.questions[list(questions)].T).tolist()
        return rows

    def nearest(self, question: int, top_k: int) -> list[int]:
        """The passages most like a question, best first."""
        found = (self.passages @ self.questions[question]).topk(min(top_k, len(self.passages)))
        return [int(i) for i in found.indices]


def ask_teacher(
    folder: str | os.PathLike[str], passages: Sequence[str], questions: Sequence[str], cache: Path
) -> Teacher:
    """Encode passages and questions, or read them from an earlier run's cache.

    Args:
        folder: A local sentence encoder that averages over its tokens, such as gte-small.
        passages: Their texts; what is beyond 256 tokens is not seen.
        questions: Their texts.
        cache: A file for the vectors, so that a run which is resumed need not encode again.

    Raises:
        OSError: The encoder is missing.
        ValueError: The cache is of other data.

    Example:
        >>> ask_teacher("gte-small", ["Cats purr."], ["What purrs?"], Path("teacher.pt"))  # doctest: +SKIP
    """
    if not cache.is_file():
        vectors = {"passages": encode(folder, passages), "questions": encode(folder, questions)}
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vectors, cache)
    vectors = torch.load(cache, weights_only=True)
    if [len(vectors["passages"]), len(vectors["questions"])] != [len(passages), len(questions)]:
        raise ValueError(f"{cache} was made from other data; remove it or choose another output folder.")
    return Teacher(**vectors)
