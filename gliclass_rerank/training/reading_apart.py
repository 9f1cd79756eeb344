"""Reading apart: an encoder learns, without labels, to read labels and text as if each stood alone.

A sentence encoder knows how to compare texts that it has read one at a time. In a GLiClass prompt they share one
sequence, attend to each other and stand at other positions, and most of that knowledge is lost. So the first
stage of training makes the states of each token in the prompt equal to those that the frozen encoder gives it when
it reads that label, or the text, alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gliclass_rerank.engine.batching import plan_batches
from gliclass_rerank.engine.scorer import pad
from gliclass_rerank.prompt.builder import Prompt, PromptBuilder

if TYPE_CHECKING:
    from gliclass_rerank.modeling.gliclass import GLiClassNetwork

_TOKEN_BUDGET = 1024  # tokens in one forward pass

_Place = tuple[int, int, int]  # sequence, first token, and the token after the last
_Part = tuple[int, int, float]  # first token, the token after the last, and the weight


class ReadingApart:
    """Compares the states of a network's tokens with those of its encoder as it is now, reading each part alone.

    Args:
        network: The network to train; its encoder is copied.
        prompts: Builds its sequences.

    Raises:
        ValueError: The network's prompts put the text before the labels.
    """

    def __init__(self, network: GLiClassNetwork, prompts: PromptBuilder) -> None:
        if not prompts.prompt_first:
            raise ValueError("the loss is 'reading-apart', but this checkpoint puts the text before the labels.")
        self._network, self._prompts = network, prompts
        self._teacher = copy.deepcopy(network.encoder_model).requires_grad_(False).train(False)

    def loss(self, sequences: Sequence[Prompt]) -> Tensor:
        """Return the mean squared error of token states, summed over the compared layers.

        Labels and text weigh half each in a sequence, however long they are. Below the last layer, a difference
        that all tokens of labels have in common, or all of texts, is no error: it may mark the side.

        Args:
            sequences: From the network's ``PromptBuilder``.

        Returns:
            A scalar.
        """
        device = next(self._network.parameters()).device
        nn.Module.to(self._teacher, device)
        losses = []
        for batch in plan_batches([len(sequence.ids) for sequence in sequences], _TOKEN_BUDGET):
            chosen = [sequences[i] for i in batch]
            ids, mask = pad(chosen, device)
            last, *lower = _every_second(self._network.encode_layers(ids, mask))
            (last_goal, *lower_goals), weights = self._read_apart(chosen, [last, *lower])
            is_text = (ids == self._prompts.text_id).cumsum(1) > 0
            errors = [
                _without_means(s.float() - g.float(), [weights * ~is_text, weights * is_text])
                for s, g in zip(lower, lower_goals, strict=True)
            ]
            errors.append(last.float() - last_goal.float())
            losses += [(error.square().mean(-1) * weights).sum() for error in errors]
        return torch.stack(losses).sum() / len(sequences)

    @torch.no_grad()
    def _read_apart(self, sequences: Sequence[Prompt], like: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the goal of each compared layer, and each token's weight (sequences, length)."""
        goals = [torch.zeros_like(states) for states in like]
        weights = torch.zeros(like[0].shape[:2], device=like[0].device)
        places: dict[tuple[int, ...], list[_Place]] = {}  # sequences of one group have labels in common
        for row, sequence in enumerate(sequences):
            for start, end, share in self._parts(sequence.ids):
                places.setdefault(tuple(sequence.ids[start:end]), []).append((row, start, end))
                weights[row, start:end] = share / (end - start)
        parts = list(places)
        for batch in plan_batches([len(part) for part in parts], _TOKEN_BUDGET):
            ids, mask = pad([Prompt(list(parts[i]), 0, truncated=False) for i in batch], weights.device)
            output = self._teacher(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            for goal, states in zip(goals, _every_second(output.hidden_states), strict=True):
                for i, part_states in zip(batch, states, strict=True):
                    for row, start, end in places[parts[i]]:
                        goal[row, start:end] = part_states[: end - start]
        return goals, weights

    def _parts(self, ids: Sequence[int]) -> Iterator[_Part]:
        """Yield where each label stands with its control token, and the text with its own, and what each weighs."""
        starts = [i for i, token in enumerate(ids) if token in (self._prompts.label_id, self._prompts.text_id)]
        labels = len(starts) - 1
        for number, (start, end) in enumerate(pairwise([*starts, len(ids)])):
            yield start, end, 0.5 / labels if number < labels else 0.5


def _every_second(states: Sequence[Tensor]) -> list[Tensor]:
    """The states after the last layer, the last but two and so on, without those of the embeddings."""
    return list(states[:0:-2])


def _without_means(errors: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Take from the errors (sequences, length, hidden) of each side their mean, by weights (sequences, length)."""
    for weight in weights:
        side = (weight > 0).unsqueeze(-1)
        errors = errors - side * (errors * weight.unsqueeze(-1)).sum((0, 1)) / weight.sum().clamp(min=1e-6)
    return errors
