"""A start that reads labels and text nearly apart, before any training.

Segment embeddings mark on which side of a prompt a token stands: ``config.json`` has ``use_segment_embeddings``, which
gives 0 to labels and 1 to the text. Attention then takes ``_DISTANCE`` from the score of two tokens of different
sides. All of this is arithmetic on the encoder's weights:

- The mark is a step along the direction that embeddings use least, so it disturbs little.
- Each layer has a reader of the mark: a linear function of a token's state that is -1 for labels and 1 for the text,
  as good as states allow (Fisher's linear discriminant).
- In each head, the direction that queries and keys use least is given up for the mark. The product of two marks is then
  a part of the attention score.
- Two more hidden units of each feed-forward layer renew the mark, which would fade from layer to layer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from gliclass_rerank.modeling.gliclass import GLiClassNetwork

EXTRA_UNITS = 8  # of each feed-forward layer: two that renew the mark, and six for a multiple of eight
_DISTANCE = 6.0  # logits of attention between sides are lower by this
_MARK = 0.1  # length of the mark, as a share of a state's
_GAIN = 8.0  # makes GELU nearly a sharp bend
_POSITIONS = 260  # of the longest text, behind the longest offset
_MAX_OFFSET = 60  # texts of a prompt stand behind labels of up to so many tokens

_States = list[Tensor]  # (1, length, hidden) of each text
_Reader = tuple[Tensor, Tensor]  # weight (hidden) and offset


def can_separate(network: GLiClassNetwork) -> bool:
    """Whether ``separate_sides`` can be used: for a BERT with GELU, enough positions, and units that do nothing yet.

    Args:
        network: The network.
    """
    encoder: Any = network.encoder_model
    config = encoder.config
    if config.model_type != "bert" or config.hidden_act != "gelu" or config.max_position_embeddings < _POSITIONS:
        return False
    return not any(layer.output.dense.weight[:, -EXTRA_UNITS:].any() for layer in encoder.encoder.layer)


@torch.no_grad()
def separate_sides(network: GLiClassNetwork, texts: Sequence[Sequence[int]]) -> None:
    """Make labels and text nearly blind to each other.

    Args:
        network: Changed in place. It has segment embeddings, and ``EXTRA_UNITS`` units in each feed-forward layer
            that do nothing yet.
        texts: Token ids of some hundred texts, with the encoder's own first and last token: states are measured on
            them.
    """
    encoder: Any = network.encoder_model
    offsets = [random.Random(number).randrange(_MAX_OFFSET) for number in range(len(texts))]
    ids = [torch.tensor([text]) for text in texts]
    summed = torch.cat([_sum_embeddings(encoder, i, offset) for i, offset in zip(ids, offsets, strict=True)], 1)[0]
    mark = _least_used(summed) * _MARK * summed.norm(dim=1).mean()
    network.segment_embeddings.weight.copy_(torch.stack([-mark, mark, mark]))
    labels, texts_ = (
        [encoder.embeddings.LayerNorm(_sum_embeddings(encoder, i, o) + side) for i, o in zip(ids, offsets, strict=True)]
        for side in (-mark, mark)
    )
    layers = encoder.encoder.layer
    for layer in layers:
        _separate(layer.attention.self, _join(labels), _join(texts_))
        if layer is not layers[-1]:
            _renew(layer, _attend(layer, labels), _attend(layer, texts_))
        labels, texts_ = _run(layer, labels), _run(layer, texts_)


def _sum_embeddings(encoder: Any, ids: Tensor, offset: int) -> Tensor:  # noqa: ANN401 - a BertModel
    """(1, length, hidden) before their norm."""
    embeddings = encoder.embeddings
    places = torch.arange(offset, offset + ids.shape[1])
    summed: Tensor = (
        embeddings.word_embeddings(ids)
        + embeddings.position_embeddings(places)
        + embeddings.token_type_embeddings.weight[0]
    )
    return summed


def _least_used(states: Tensor) -> Tensor:
    """The direction, of length 1, along which states (tokens, hidden) differ least; norms do not remove it."""
    direction: Tensor = torch.linalg.eigh(torch.cov(states.T))[1][:, 0]
    return nn.functional.normalize(direction - direction.mean(), dim=0)


def _reader(labels: Tensor, texts: Tensor) -> _Reader:
    """Fisher's linear discriminant: about -1 for the first states (tokens, hidden) and 1 for the second."""
    difference = texts.mean(0) - labels.mean(0)
    spread = (torch.cov(labels.T) + torch.cov(texts.T)) / 2
    spread = spread + 1e-5 * spread.diagonal().mean() * torch.eye(len(spread))
    weight = torch.linalg.solve(spread, difference)
    weight = weight * 2 / (weight @ difference)
    return weight, -(weight @ (labels.mean(0) + texts.mean(0))) / 2


def _separate(attention: Any, labels: Tensor, texts: Tensor) -> None:  # noqa: ANN401 - a BertSelfAttention
    """Add the product of two tokens' marks to their attention score."""
    size = attention.attention_head_size
    weight, offset = _reader(labels, texts)
    strength = (_DISTANCE * size**0.5 / 2) ** 0.5
    states = torch.cat([labels, texts])
    queries, keys = attention.query(states), attention.key(states)
    for start in range(0, attention.query.out_features, size):
        head = slice(start, start + size)
        uses = [part.T @ part / part.square().sum() for part in (queries[:, head], keys[:, head])]
        free = torch.linalg.eigh(uses[0] + uses[1])[1][:, 0]
        others = torch.eye(size) - torch.outer(free, free)
        for linear in (attention.query, attention.key):
            linear.weight[head] = others @ linear.weight[head] + strength * torch.outer(free, weight)
            linear.bias[head] = others @ linear.bias[head] + strength * offset * free


def _renew(layer: Any, labels: _States, texts: _States) -> None:  # noqa: ANN401 - a BertLayer
    """Let the feed-forward layer add the mark again, cut to -1 and 1, along the direction that is used least."""
    weight, offset = _reader(_join(labels), _join(texts))
    inner, outer = layer.intermediate.dense, layer.output.dense
    sums = [_join(states) + outer(nn.functional.gelu(inner(_join(states)))) for states in (labels, texts)]
    mark = _least_used((sums[0] + sums[1]) / 2) * _MARK * torch.cat(sums).norm(dim=1).mean()
    unit = inner.out_features - EXTRA_UNITS
    for number, (bend, sign) in enumerate(((1.0, 1.0), (-1.0, -1.0))):  # max(0, x + 1) - max(0, x - 1) - 1
        inner.weight[unit + number] = _GAIN * weight
        inner.bias[unit + number] = _GAIN * (offset + bend)
        outer.weight[:, unit + number] = sign * mark / _GAIN
    outer.bias -= mark


def _attend(layer: Any, states: _States) -> _States:  # noqa: ANN401 - a BertLayer
    return [_first(layer.attention(text, None)) for text in states]


def _run(layer: Any, states: _States) -> _States:  # noqa: ANN401 - a BertLayer
    return [_first(layer(text, None)) for text in states]


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _join(states: _States) -> Tensor:
    return torch.cat([text[0] for text in states])
