"""ModernBERT over packed sequences.

Warner et al., Smarter, Better, Faster, Longer (2024): rotary positions, and in two of three layers a token sees only
its neighbours. Queries and keys are rotated together, where the projection wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gliclass_rerank.modeling.attention import Encoder, LocalAttention, packed_attention


def encode_modernbert(
    encoder: Encoder, inputs: dict[str, Tensor], positions: Tensor, lengths: Sequence[int], layer: int, rows: Tensor
) -> Tensor:
    """Run a ModernBERT on packed sequences; ``encoders.Family`` explains the arguments."""
    hidden: Tensor = encoder.embeddings(**inputs)[0]
    kinds = {block.attention_type for block in encoder.layers}
    # The angles are computed in fp32; only their cosines and sines are rounded.
    rotations = {kind: encoder.rotary_emb(hidden.float(), positions, kind) for kind in kinds}
    angles = {kind: _angles(cos, sin, hidden.dtype) for kind, (cos, sin) in rotations.items()}
    reach = encoder.config.sliding_window  # to either side
    local = LocalAttention(lengths, reach, hidden) if reach + 1 < max(lengths) else None
    layers = list(encoder.layers)
    blocks = layers if layer == -1 else layers[:layer]
    for block in blocks:
        attention = block.attn
        projected = attention.Wqkv(block.attn_norm(hidden)).view(len(hidden), 3, -1, attention.head_dim)
        rotated = _rotate(projected[:, :2], *angles[block.attention_type])
        query, key, value = (x.transpose(0, 1) for x in (rotated[:, 0], rotated[:, 1], projected[:, 2]))
        scaling = attention.head_dim**-0.5
        if local and block.attention_type == "sliding_attention":
            attended = local.attend(query, key, value, scaling)
        else:
            attended = packed_attention(query, key, value, lengths, scaling)
        attended = attended.reshape(len(hidden), -1)
        if block is blocks[-1]:
            hidden, attended = hidden[rows], attended[rows]
        hidden = hidden + attention.Wo(attended)
        hidden = hidden + block.mlp(block.mlp_norm(hidden))
    if not blocks:
        hidden = hidden[rows]
    # In transformers the last hidden states are the normalised ones, and no others are.
    vectors: Tensor = encoder.final_norm(hidden) if layer in (-1, len(layers)) else hidden
    return vectors


def can_pack_modernbert(encoder: Encoder) -> bool:
    """Whether ``encode_modernbert`` can run an encoder: a token has to see at least the one beside it."""
    return bool(encoder.config.sliding_window >= 1)


def _angles(cos: Tensor, sin: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (tokens, 1, 1, size), the sines signed for ``_rotate``."""
    half = sin.shape[-1] // 2
    sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
    return cos[0, :, None, None].to(dtype), sin[0, :, None, None].to(dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of features (i, i + size / 2) of (tokens, 2, heads, size) by its angle."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
