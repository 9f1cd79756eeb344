"""DeBERTa's disentangled attention over packed sequences.

He et al., DeBERTa: Decoding-enhanced BERT with Disentangled Attention (2021), section 3.1: an attention score is the
sum of three products, content with content, query with an embedding of the relative position, and key with such an
embedding. transformers multiplies with the embeddings of all relative positions and gathers those that a pair of tokens
needs. Here the embeddings are in the order of distance, so the needed products lie on a diagonal: a view, no gather.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gliclass_rerank.modeling.attention import Encoder


def encode_deberta(
    encoder: Encoder, inputs: dict[str, Tensor], positions: Tensor, lengths: Sequence[int], layer: int, rows: Tensor
) -> Tensor:
    """Run a DeBERTa that ``can_pack_deberta``; ``encoders.Family`` explains the arguments."""
    hidden: Tensor = encoder.embeddings(**inputs, position_ids=positions)[0]
    layers = list(encoder.encoder.layer)
    distance_embeddings = encoder.encoder.get_rel_embedding()
    distance_rows = _rows_by_distance(layers[0].attention.self, max(lengths), hidden.device)
    blocks = layers if layer == -1 else layers[:layer]
    for block in blocks:
        attention = block.attention
        attended = _attend(attention.self, hidden, distance_embeddings[distance_rows].to(hidden.dtype), lengths)
        if block is blocks[-1]:
            hidden, attended = hidden[rows], attended[rows]
        attended = attention.output(attended, hidden)
        hidden = block.output(block.intermediate(attended), attended)
    return hidden if blocks else hidden[rows]


def can_pack_deberta(encoder: Encoder) -> bool:
    """Whether ``encode_deberta`` can run an encoder: with relative attention and without a convolution."""
    return encoder.encoder.conv is None and bool(encoder.encoder.relative_attention)


def _rows_by_distance(attention: Encoder, longest: int, device: torch.device) -> Tensor:
    """Rows of the relative embedding for distances (query minus key) from ``longest`` - 1 down to 1 - ``longest``."""
    distances = torch.arange(longest - 1, -longest, -1, device=device)
    buckets, limit, span = attention.position_buckets, attention.max_relative_positions, attention.pos_ebd_size
    if buckets > 0 and limit > 0:  # near distances one by one, far ones by their logarithm
        middle = buckets // 2
        far = distances.abs().clamp(min=middle - 1)
        # In fp32 as in transformers: at whole numbers the last digit decides the bucket.
        steps = torch.log(far / middle) / torch.log(torch.tensor((limit - 1) / middle)) * (middle - 1)
        logarithmic = (torch.ceil(steps) + middle) * distances.sign()
        distances = torch.where(far <= middle, distances, logarithmic).long()
    rows: Tensor = (distances + span).clamp(0, 2 * span - 1)
    return rows


def _attend(attention: Encoder, hidden: Tensor, by_distance: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attend within each sequence; (tokens, hidden) to the same shape.

    Args:
        attention: The layer's DisentangledSelfAttention.
        hidden: (tokens, hidden) token vectors.
        by_distance: (distances, hidden) embeddings in the order of ``_rows_by_distance``.
        lengths: Tokens of each sequence.
    """
    heads = attention.num_attention_heads

    def split(x: Tensor) -> Tensor:  # (tokens, hidden) to (heads, tokens, size)
        return x.view(len(x), heads, -1).transpose(0, 1)

    products = 1 + ("c2p" in attention.pos_att_type) + ("p2c" in attention.pos_att_type)
    scaling = (attention.attention_head_size * products) ** -0.5
    query = split(attention.query_proj(hidden)) * scaling
    key, value = split(attention.key_proj(hidden)), split(attention.value_proj(hidden))
    share = attention.share_att_key
    to_keys = to_queries = None
    if "c2p" in attention.pos_att_type:
        to_keys = split((attention.key_proj if share else attention.pos_key_proj)(by_distance))
    if "p2c" in attention.pos_att_type:
        project = attention.query_proj if share else attention.pos_query_proj
        to_queries = split(project(by_distance)).flip(1) * scaling
    output = hidden.new_empty(len(hidden), heads, query.shape[-1])
    longest = (len(by_distance) + 1) // 2
    start = 0
    for length in lengths:
        tokens = slice(start, start + length)
        near = slice(longest - length, longest + length - 1)
        queries, keys = query[:, tokens].contiguous(), key[:, tokens].contiguous()  # else each product copies them
        scores = queries @ keys.transpose(-1, -2)
        if to_keys is not None:
            scores += _diagonals(queries @ to_keys[:, near].transpose(-1, -2))
        if to_queries is not None:
            added = _diagonals(keys @ to_queries[:, near].transpose(-1, -2)).transpose(-1, -2)
            scores += added.contiguous()  # in half precision faster than adding the view
        output[tokens] = (scores.softmax(-1) @ value[:, tokens]).transpose(0, 1)
        start += length
    output[start:] = 0
    joined: Tensor = output.view(len(hidden), -1)
    return joined


def _diagonals(products: Tensor) -> Tensor:
    """View (heads, n, 2n - 1) products as (heads, n, n): row i holds the columns from n - 1 - i on."""
    heads, n, width = products.shape
    return products.as_strided((heads, n, n), (n * width, width - 1, 1), products.storage_offset() + n - 1)
