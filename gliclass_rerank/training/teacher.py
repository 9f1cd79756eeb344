"""A sentence encoder as teacher: how alike it finds questions and passages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.training.data import TrainingData
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
        best = (self.passages @ self.questions[question]).topk(min(top_k, len(self.passages)))
        return [int(i) for i in best.indices]

    def nearest_passages(self, passage: int, top_k: int) -> list[int]:
        """The passages most like a passage, itself included, best first."""
        return [int(i) for i in (self.passages @ self.passages[passage]).topk(min(top_k, len(self.passages))).indices]

    def passage_similarities(self, passages: Sequence[int], passage: int) -> list[list[float]]:
        """The cosine of each of some passages (rows) and one passage (the only column)."""
        rows: list[list[float]] = (self.passages[list(passages)] @ self.passages[passage][:, None]).tolist()
        return rows


def ask_teacher(folder: str | os.PathLike[str], data: TrainingData, cache: Path) -> Teacher:
    """Encode passages and questions, or read them from an earlier run's cache.

    Args:
        folder: A local sentence encoder that averages over its tokens, such as gte-small.
        data: What to encode; of a passage, what is beyond 256 tokens is not seen.
        cache: A file for the vectors, so that a run which is resumed need not encode again; one of
            another teacher or other data is replaced.

    Raises:
        OSError: The encoder is missing.
        ValueError: There is no question to encode.

    Example:
        >>> ask_teacher("gte-small", data, Path("teacher.safetensors"))  # doctest: +SKIP
    """
    if not data.questions:
        raise ValueError("a sentence encoder teaches about questions and their passages, and the data has none.")
    source = {"data": data.digest, "teacher": Path(folder).name}
    if cache.is_file():
        with safe_open(cache, "pt") as file:
            known = (file.metadata() or {}) == source
        if known:
            return Teacher(**load_file(cache))
    vectors = {
        "passages": encode(folder, [passage.whole for passage in data.passages]),
        "questions": encode(folder, [question.text for question in data.questions]),
    }
    cache.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(cache) as unfinished:
        save_file(vectors, unfinished, metadata=source)
    return Teacher(**vectors)
