"""Attention within sequences that follow one another in one row, without padding between them.

Each sequence attends only to itself. Nothing is computed for padding, and the other sequences of a batch can change a
score by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED_ATTENTION = "gliclass_packed"

Encoder = Any  # one of transformers' encoders: its parts have no types


def packed_attention(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scaling: float) -> Tensor:
    """Attend within each sequence.

    Args:
        query: (heads, tokens, size).
        key: The same shape.
        value: The same shape.
        lengths: Tokens of each sequence; tokens after the last one get zeros.
        scaling: Factor of the products of queries and keys.

    Returns:
        (tokens, heads, size).
    """
    output = query.new_empty(query.shape[1], query.shape[0], query.shape[2])
    # PyTorch's fused kernel for CPUs is faster than plain products for long sequences only. In half precision it is
    # slower for all, but plain products of very long ones take too much memory.
    fused_from = 256 if query.dtype == torch.float32 else 2048
    start = 0
    for length in lengths:
        tokens = slice(start, start + length)
        if length >= fused_from:
            attended = nn.functional.scaled_dot_product_attention(
                query[None, :, tokens], key[None, :, tokens], value[None, :, tokens], scale=scaling
            )[0]
        else:
            weights = ((query[:, tokens] * scaling) @ key[:, tokens].transpose(-1, -2)).softmax(-1)
            attended = weights @ value[:, tokens]
        output[tokens] = attended.transpose(0, 1)
        start += length
    output[start:] = 0
    return output


class LocalAttention:
    """Attention in which a token sees only its neighbours: a band around the diagonal.

    The row of all sequences is cut into blocks of queries. Each block meets the block of keys at the same place and
    the two beside it.

    Args:
        lengths: Tokens of each sequence; no sequence sees the tokens after the last one.
        reach: How many tokens a token sees on either side.
        like: (tokens, any) tensor with the queries' device and dtype.
    """

    def __init__(self, lengths: Sequence[int], reach: int, like: Tensor) -> None:
        self._reach = reach
        sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(like.device)
        self._blocks = -(-len(like) // reach)
        self._padding = self._blocks * reach - len(like)
        sequence = nn.functional.pad(sequence, (0, self._blocks * reach - len(sequence)), value=-1)
        queries = sequence.view(self._blocks, reach, 1)
        keys = nn.functional.pad(sequence, (reach, reach), value=-1).unfold(0, 3 * reach, reach)
        places = torch.arange(-reach, 2 * reach, device=like.device)
        distance = places - places[reach : 2 * reach, None]
        unseen = (queries != keys[:, None]) | (distance.abs() > reach)
        # Added to the products, (blocks, reach, 3 * reach): three times as fast as filling them by a mask.
        self._bias = like.new_zeros(unseen.shape).masked_fill_(unseen, torch.finfo(like.dtype).min)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend to neighbours.

        Args:
            query: (heads, tokens, size).
            key: The same shape.
            value: The same shape.
            scaling: Factor of the products of queries and keys.

        Returns:
            (tokens, heads, size).
        """
        heads, tokens, size = query.shape
        query = nn.functional.pad(query, (0, 0, 0, self._padding)).view(heads, self._blocks, self._reach, size)
        beside = (0, 0, self._reach, self._padding + self._reach)
        # Views: a block's keys and values overlap with those of the blocks beside it.
        key, value = (nn.functional.pad(x, beside).unfold(1, 3 * self._reach, self._reach) for x in (key, value))
        if query.dtype == torch.float32:
            output = nn.functional.scaled_dot_product_attention(
                query.transpose(0, 1),
                key.permute(1, 0, 3, 2),
                value.permute(1, 0, 3, 2),
                attn_mask=self._bias[:, None],
                scale=scaling,
            ).transpose(0, 1)
        else:  # in half precision the fused kernel is the slower one
            output = ((query * scaling) @ key).add_(self._bias).softmax(-1) @ value.transpose(-1, -2)
        return output.reshape(heads, -1, size)[:, :tokens].transpose(0, 1)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    lengths: Sequence[int] | None = None,
    **options: Any,  # noqa: ANN401 - transformers decides what it passes
) -> tuple[Tensor, None]:
    """Packed attention if the encoder got ``lengths``, else transformers' own over padded sequences."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    return packed_attention(query[0], key[0], value[0], lengths, scaling)[None], None


def _mask(attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:  # noqa: ANN401 - as transformers'
    """The mask of padded sequences; packed ones have none."""
    if attention_mask is None:
        return None
    mask: Tensor | None = sdpa_mask(attention_mask=attention_mask, **options)
    return mask


AttentionInterface.register(PACKED_ATTENTION, _attention)
AttentionMaskInterface.register(PACKED_ATTENTION, _mask)
