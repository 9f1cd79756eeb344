"""Attention that trains fast on a CPU: plain matrix products, in the dtype that autocast chose.

PyTorch's fused kernel has a slow backward pass on CPUs, and transformers' plain one computes the
softmax in fp32 and adds the mask to a copy of it, which costs a fifth of a training step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

TRAINING_ATTENTION = "gliclass_training"


def training_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,  # noqa: ANN401 - whatever transformers passes on
) -> tuple[Tensor, None]:
    """Attend, without dropout.

    Args:
        module: Not read.
        query: (batch, heads, length, size).
        key: The same shape.
        value: The same shape.
        attention_mask: Added to the products, (batch, 1, length, length).
        scaling: What the products are multiplied with.

    Returns:
        (batch, length, heads, size), and no weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast(query.device.type, enabled=False):
        scores = (query * scaling) @ key.transpose(-1, -2)
        if attention_mask is not None:
            # The least of fp32 is minus infinity in half precision, and a row of those (padding, in a window) has
            # no softmax.
            scores += attention_mask.clamp(min=torch.finfo(scores.dtype).min).to(scores.dtype)
        output = scores.softmax(-1) @ value
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(TRAINING_ATTENTION, training_attention)
AttentionMaskInterface.register(TRAINING_ATTENTION, eager_mask)
