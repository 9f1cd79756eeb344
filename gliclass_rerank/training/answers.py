"""Where an answer stands: a second thing to learn beside the score.

A target says only that a passage answers a question. Where the answer's words are known, their
place says why. What is learned for it beside the
network is dropped when training is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from gliclass_rerank.modeling.gliclass import GLiClassNetwork
    from gliclass_rerank.prompt.builder import Prompt, PromptBuilder
    from gliclass_rerank.training.sampling import Group

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


class NetworkWithAnswerFinder(nn.Module):
    """A network and its finder, as they are trained; without a config, since Trainer would write into it.

    Args:
        network: A network, or one with LoRA's adapters.
    """

    def __init__(self, network: GLiClassNetwork) -> None:
        super().__init__()
        self.network = network
        self.finder = AnswerFinder(network.config.encoder_hidden_size)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, num_labels: int, *, finder_alone: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits (batch, labels), and the finder's (batch, labels, length), which teach the encoder unless alone."""
        tokens = self.network.encode(input_ids, attention_mask)
        with torch.autocast(input_ids.device.type, enabled=False):
            labels, _ = self.network.label_vectors(tokens, input_ids, attention_mask, num_labels)
            states = (tokens.detach(), labels.detach()) if finder_alone else (tokens, labels)
            answer_logits: Tensor = self.finder(*states)
        return self.network.score_tokens(tokens, input_ids, attention_mask, num_labels), answer_logits


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


def answers_loss(
    prompts: PromptBuilder, groups: Sequence[Group], sequences: Sequence[Prompt], answer_logits: Sequence[Tensor]
) -> Tensor:
    """The mean of ``answer_loss`` over the questions whose answer's place is known.

    Args:
        prompts: What built the sequences.
        groups: Groups of passages and questions.
        sequences: One for each passage of each group.
        answer_logits: The finder's logits (questions, tokens) of each sequence.

    Returns:
        A scalar; 0 where no place is known.
    """
    losses = []
    rest = iter(zip(sequences, answer_logits, strict=True))
    for group in groups:
        own = list(islice(rest, len(group.passages)))
        if group.answers is None:
            continue
        texts = [(sequence.ids, prompts.place_of_text(sequence.ids)) for sequence, _ in own]
        for q in range(len(group.questions)):
            marked = [
                mark
                for (ids, text), row in zip(texts, group.answers, strict=True)
                for mark in mark_answers(ids[text], [i for words in row[q] for i in prompts.words_inside(words)])
            ]
            logits = torch.cat([rows[q, text] for (_, rows), (_, text) in zip(own, texts, strict=True)])
            losses.append(answer_loss(logits, torch.tensor(marked, device=logits.device)))
    known = [loss for loss in losses if loss is not None]
    return torch.stack(known).mean() if known else torch.zeros((), device=answer_logits[0].device)


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
