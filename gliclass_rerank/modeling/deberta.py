"""DeBERTa's disentangled attention over packed sequences.

He et al., DeBERTa: Decoding-enhanced BERT with Disentangled Attention (2021), section 3.1: beside
the product of contents, a score has the product of a query with an embedding of the relative
position, and that of a key with one. Transformers computes these products with all relative
positions there are and gathers what it needs. Here the embeddings are laid out by distance, so
that what is needed lies along a diagonal: a view, without a gather.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gliclass_rerank.modeling.attention import Encoder


def encode_deberta(
    encoder: Encoder, inputs: dict[str, Tensor], positions: Tensor, lengths: Sequence[int], layer: int, wanted: Tensor
) -> Tensor:
    """Run DeBERTa on packed sequences.

    Args:
        encoder: A DebertaV2Model with relative attention, without a convolution.
        inputs: See ``encode_packed``.
        positions: (1, tokens) of each token in its sequence.
        lengths: See ``encode_packed``.
        layer: See ``encode_packed``.
        wanted: See ``encode_packed``.

    Returns:
        See ``encode_packed``.
    """
    hidden: Tensor = encoder.embeddings(**inputs, position_ids=positions)[0]
    layers = list(encoder.encoder.layer)
    distance_embeddings = encoder.encoder.get_rel_embedding()
    rows = _rows_by_distance(layers[0].attention.self, max(lengths), hidden.device)
    run = layers if layer == -1 else layers[:layer]
    for block in run:
        attention = block.attention
        attended = _attend(attention.self, hidden, distance_embeddings, rows, lengths)
        if block is run[-1]:
            hidden, attended = hidden[wanted], attended[wanted]
        attended = attention.output(attended, hidden)
        hidden = block.output(block.intermediate(attended), attended)
    return hidden if run else hidden[wanted]


def _rows_by_distance(attention: Encoder, longest: int, device: torch.device) -> Tensor:
    """Rows of the relative embedding, for distances (query minus key) from ``longest`` - 1 down to its negative."""
    distances = torch.arange(longest - 1, -longest, -1, device=device)
    buckets, most, span = attention.position_buckets, attention.max_relative_positions, attention.pos_ebd_size
    if buckets > 0 and most > 0:  # near distances one by one, far ones by their logarithm
        middle = buckets // 2
        far = distances.abs().clamp(min=middle - 1)
        # In fp32 throughout, as transformers: at whole numbers the last digit decides.
        steps = torch.log(far / middle) / torch.log(torch.tensor((most - 1) / middle)) * (middle - 1)
        logarithmic = (torch.ceil(steps) + middle) * distances.sign()
        distances = torch.where(far <= middle, distances, logarithmic).long()
    rows: Tensor = (distances + span).clamp(0, 2 * span - 1)
    return rows


def _attend(
    attention: Encoder, hidden: Tensor, distance_embeddings: Tensor, rows: Tensor, lengths: Sequence[int]
) -> Tensor:
    heads = attention.num_attention_heads

    def split(x: Tensor) -> Tensor:  # (tokens, hidden) to (heads, tokens, size)
        return x.view(len(x), heads, -1).transpose(0, 1)

    parts = 1 + ("c2p" in attention.pos_att_type) + ("p2c" in attention.pos_att_type)
    query = split(attention.query_proj(hidden)) * (attention.attention_head_size * parts) ** -0.5
    key, value = split(attention.key_proj(hidden)), split(attention.value_proj(hidden))
    by_distance = distance_embeddings[rows].to(hidden.dtype)
    share = attention.share_att_key
    to_keys = to_queries = None
    if "c2p" in attention.pos_att_type:
        to_keys = split((attention.key_proj if share else attention.pos_key_proj)(by_distance))
    if "p2c" in attention.pos_att_type:
        project = attention.query_proj if share else attention.pos_query_proj
        to_queries = split(project(by_distance)).flip(1) * (attention.attention_head_size * parts) ** -0.5
    output = hidden.new_empty(len(hidden), heads, query.shape[-1])
    longest = (len(rows) + 1) // 2
    start = 0
    for length in lengths:
        own = slice(start, start + length)
        near = slice(longest - length, longest + length - 1)
        queries, keys = query[:, own].contiguous(), key[:, own].contiguous()  # else each product copies them
        scores = queries @ keys.transpose(-1, -2)
        if to_keys is not None:
            scores += _diagonals(queries @ to_keys[:, near].transpose(-1, -2))
        if to_queries is not None:
            added = _diagonals(keys @ to_queries[:, near].transpose(-1, -2)).transpose(-1, -2)
            scores += added.contiguous()  # in half precision faster than to add it where it lies
        output[own] = (scores.softmax(-1) @ value[:, own]).transpose(0, 1)
        start += length
    output[start:] = 0
    joined: Tensor = output.view(len(hidden), -1)
    return joined


def _diagonals(products: Tensor) -> Tensor:
    """Of (heads, n, 2n - 1) products, the view (heads, n, n) whose row i has the columns n - 1 - i and on."""
    heads, n, width = products.shape
    return products.as_strided((heads, n, n), (n * width, width - 1, 1), products.storage_offset() + n - 1)
