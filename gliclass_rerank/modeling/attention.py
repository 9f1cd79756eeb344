"""Attention within sequences that follow one another in one row, without padding between them.

Every sequence attends to itself alone: nothing is computed for padding, and what else is in the
batch can change a score by rounding only.
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
        lengths: Tokens of each sequence; what follows the last one gets zeros.
        scaling: What products of queries and keys are multiplied with.

    Returns:
        (tokens, heads, size).
    """
    output = query.new_empty(query.shape[1], query.shape[0], query.shape[2])
    # PyTorch's fused kernel for CPUs is faster than plain products for long sequences only, in half precision
    # for none, but there the weights of very long ones take too much memory.
    fused_from = 256 if query.dtype == torch.float32 else 2048
    start = 0
    for length in lengths:
        own = slice(start, start + length)
        if length >= fused_from:
            attended = nn.functional.scaled_dot_product_attention(
                query[None, :, own], key[None, :, own], value[None, :, own], scale=scaling
            )[0]
        else:
            attended = ((query[:, own] * scaling) @ key[:, own].transpose(-1, -2)).softmax(-1) @ value[:, own]
        output[own] = attended.transpose(0, 1)
        start += length
    output[start:] = 0
    return output


class Window:
    """Which tokens see each other where a token sees no farther than its neighbours: a band around the diagonal.

    All sequences at once are cut into blocks of queries; each block meets the block of keys that
    belongs to it and those beside it.

    Args:
        lengths: Tokens of each sequence; what follows the last one is seen by none of them.
        reach: How many tokens to either side are seen.
        like: (tokens, any) tensor of the queries' device and dtype.
    """

    def __init__(self, lengths: Sequence[int], reach: int, like: Tensor) -> None:
        self._reach = reach
        number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(like.device)
        self._blocks = -(-len(like) // reach)
        self._rest = self._blocks * reach - len(like)
        number = nn.functional.pad(number, (0, self._blocks * reach - len(number)), value=-1)
        own = number.view(self._blocks, reach, 1)
        around = nn.functional.pad(number, (reach, reach), value=-1).unfold(0, 3 * reach, reach)
        places = torch.arange(-reach, 2 * reach, device=like.device)
        distance = places - places[reach : 2 * reach, None]
        unseen = (own != around[:, None]) | (distance.abs() > reach)
        # What is added to products, (blocks, reach, 3 * reach): three times as fast as to fill them by a mask.
        self._bias = like.new_zeros(unseen.shape).masked_fill_(unseen, torch.finfo(like.dtype).min)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend within the window; shapes as those of ``packed_attention``."""
        heads, tokens, size = query.shape
        query = nn.functional.pad(query, (0, 0, 0, self._rest)).view(heads, self._blocks, self._reach, size)
        around = (0, 0, self._reach, self._rest + self._reach)
        # Views: a block's keys and values overlap with those of the blocks beside it.
        key, value = (nn.functional.pad(x, around).unfold(1, 3 * self._reach, self._reach) for x in (key, value))
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
    **options: Any,  # noqa: ANN401 - whatever transformers passes on
) -> tuple[Tensor, None]:
    """Packed attention where the encoder was given ``lengths``, else transformers' own over padded sequences."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    return packed_attention(query[0], key[0], value[0], lengths, scaling)[None], None


def _mask(attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:  # noqa: ANN401 - as transformers'
    """The mask of padded sequences; packed ones come without, and need none."""
    if attention_mask is None:
        return None
    mask: Tensor | None = sdpa_mask(attention_mask=attention_mask, **options)
    return mask


AttentionInterface.register(PACKED_ATTENTION, _attention)
AttentionMaskInterface.register(PACKED_ATTENTION, _mask)
