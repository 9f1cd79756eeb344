"""A sentence encoder as teacher: how alike it finds questions and passages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import AutoTokenizer

from gliclass_rerank.batching import plan_batches
from gliclass_rerank.scorer import choose_device
from gliclass_rerank.training.encoders import load_encoder

_MAX_LENGTH = 256
_TOKEN_BUDGET = 2048


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
        vectors = {"passages": _encode(folder, passages), "questions": _encode(folder, questions)}
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vectors, cache)
    vectors = torch.load(cache, weights_only=True)
    if [len(vectors["passages"]), len(vectors["questions"])] != [len(passages), len(questions)]:
        raise ValueError(f"{cache} was made from other data; remove it or choose another output folder.")
    return Teacher(**vectors)


@torch.inference_mode()
def _encode(folder: str | os.PathLike[str], texts: Sequence[str]) -> Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    encoder = load_encoder(folder, torch.bfloat16)
    torch.nn.Module.to(encoder, choose_device(None))
    ids = tokenizer(list(texts), truncation=True, max_length=_MAX_LENGTH)["input_ids"]
    vectors = torch.empty(len(texts), encoder.config.hidden_size)
    console = Console(stderr=True)
    batches = plan_batches([len(i) for i in ids], _TOKEN_BUDGET)
    for batch in track(batches, "asking the teacher", console=console, disable=not console.is_terminal):
        inputs = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(encoder.device)
        states = encoder(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        vectors[batch] = torch.nn.functional.normalize(means, dim=-1).cpu()
    return vectors
