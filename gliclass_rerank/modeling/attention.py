"""Attention whose result does not depend on the padding, in half precision too.

PyTorch's fused attention for CPUs splits its work by the padded length and rounds in between, so
in bf16 a passage's score moved by up to 0.015 with its batch (0.006 with the fused kernel in fp32).
As plain matrix products in fp32 it moves by 0.0003; the products around it stay in bf16 and do not
depend on the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

STEADY_ATTENTION = "gliclass_steady"


def _steady_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,  # noqa: ANN401 - whatever transformers passes on
) -> tuple[Tensor, None]:
    """Transformers' SDPA attention; but to score in half precision on a CPU, plain matrix products in fp32."""
    if query.device.type != "cpu" or query.dtype == torch.float32 or torch.is_grad_enabled():
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    weights = (query.float() * scaling) @ key.float().transpose(-1, -2)
    if attention_mask is not None:
        # Not minus infinity: a padded position may see no token at all.
        weights = weights.masked_fill(~attention_mask, torch.finfo(torch.float32).min)
    output = weights.softmax(-1) @ value.float()
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(STEADY_ATTENTION, _steady_attention)
AttentionMaskInterface.register(STEADY_ATTENTION, sdpa_mask)
