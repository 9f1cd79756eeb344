"""Where an answer stands: a second thing to learn beside the score.

A target says only that a passage answers a question. Where the answer's words are known, their
place says why, which teaches the encoder to read far sooner. What is learned for it beside the
network is dropped when training is over.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_SIZE = 128


class AnswerFinder(nn.Module):
    """Says of each token and each question how much the token looks like a part of the answer.

    Args:
        hidden_size: Of the encoder.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, _SIZE)
        self.key = nn.Linear(hidden_size, _SIZE)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Logits (batch, labels, length) of tokens (batch, length, hidden) under labels (batch, labels, hidden)."""
        logits: Tensor = self.query(labels) @ self.key(tokens).transpose(1, 2) / _SIZE**0.5
        return logits


def mark_answers(ids: Sequence[int], answers: Sequence[Sequence[int]]) -> list[bool]:
    """Which token ids belong to one of the answers, wherever these stand.

    Args:
        ids: Of a text.
        answers: Token ids of the answers.

    Example:
        >>> mark_answers([7, 1, 2, 9, 1], [[1, 2], [7]])
        [True, True, True, False, False]
    """
    marked = [False] * len(ids)
    for answer in filter(None, map(list, answers)):
        for start in range(len(ids) - len(answer) + 1):
            if ids[start] == answer[0] and list(ids[start : start + len(answer)]) == answer:
                marked[start : start + len(answer)] = [True] * len(answer)
    return marked


def answer_loss(logits: Tensor, marked: Tensor) -> Tensor | None:
    """How little of a question's attention lies on the answer, over the tokens of all passages at once.

    The passages share one softmax (Clark and Gardner, Simple and Effective Multi-Paragraph Reading
    Comprehension, 2018), so a passage without an answer has to stay low; and all places of the
    answer count together (Kadlec et al., Text Understanding with the Attention Sum Reader, 2016).

    Args:
        logits: (tokens) of all passages of a group, under one question.
        marked: The same shape, true where the answer stands.

    Returns:
        A scalar; None where the answer stands nowhere.

    Example:
        >>> import torch
        >>> answer_loss(torch.tensor([9.0, 9, 0]), torch.tensor([True, True, False])).item() < 0.001
        True
    """
    if not marked.any():
        return None
    return torch.logsumexp(logits, 0) - torch.logsumexp(logits[marked], 0)
