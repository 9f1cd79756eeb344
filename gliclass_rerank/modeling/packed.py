"""Encoders over packed sequences: all tokens in one row, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gliclass_rerank.modeling.attention import PACKED_ATTENTION, Encoder
from gliclass_rerank.modeling.config import OFFSET_POSITIONS
from gliclass_rerank.modeling.deberta import encode_deberta
from gliclass_rerank.modeling.modernbert import encode_modernbert


def can_pack(encoder: Encoder) -> bool:
    """Whether an encoder can run on packed sequences; MPNet, DeBERTa with a convolution, and empty windows cannot."""
    if encoder.config.model_type == "deberta-v2":
        return encoder.encoder.conv is None and bool(encoder.encoder.relative_attention)
    if encoder.config.model_type == "modernbert" and encoder.config.sliding_window < 1:
        return False
    return bool(encoder.config._attn_implementation == PACKED_ATTENTION)


def encode_packed(
    encoder: Encoder, inputs: dict[str, Tensor], lengths: Sequence[int], layer: int, wanted: Tensor
) -> Tensor:
    """Run an encoder on sequences that follow one another.

    Args:
        encoder: One that ``can_pack``.
        inputs: ``input_ids`` (1, tokens) or ``inputs_embeds`` (1, tokens, hidden).
        lengths: Tokens of each sequence.
        layer: Index of the hidden states that are wanted; -1 for the last.
        wanted: (wanted) indices of the tokens whose vectors are returned. ModernBERT and DeBERTa compute no others
            behind the attention of the last layer.

    Returns:
        (wanted, hidden) token vectors.
    """
    tokens = sum(lengths)
    rest = round_up(tokens) - tokens  # these see nothing and are seen by none
    inputs = {name: nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, rest)) for name, x in inputs.items()}
    [device] = {x.device for x in inputs.values()}
    counted = [torch.arange(length) for length in lengths]
    positions = torch.cat([*counted, torch.zeros(rest, dtype=torch.long)]).to(device)[None]
    rows = nn.functional.pad(wanted, (0, round_up(len(wanted)) - len(wanted)))
    found = _encode(encoder, inputs, positions, lengths, layer, rows)
    return found[: len(wanted)]


def round_up(tokens: int) -> int:
    """A number of tokens that comes again: oneDNN prepares each product of a new shape, and remembers a thousand."""
    step = 1 << max(3, tokens.bit_length() - 6)  # 3 % of the tokens at most, but for few
    return -(-tokens // step) * step


def _encode(
    encoder: Encoder, inputs: dict[str, Tensor], positions: Tensor, lengths: Sequence[int], layer: int, wanted: Tensor
) -> Tensor:
    kind = encoder.config.model_type
    if kind == "deberta-v2":
        return encode_deberta(encoder, inputs, positions, lengths, layer, wanted)
    if kind == "modernbert":
        return encode_modernbert(encoder, inputs, positions, lengths, layer, wanted)
    if kind in OFFSET_POSITIONS:
        positions = positions + encoder.config.pad_token_id + 1
    output = encoder(**inputs, position_ids=positions, lengths=lengths, output_hidden_states=layer != -1)
    found: Tensor = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    return found[0, wanted]
