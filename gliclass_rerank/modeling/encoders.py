"""Build any encoder, and run it on packed sequences: all tokens in one row, without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.auto import CONFIG_MAPPING

from gliclass_rerank.modeling.attention import PACKED_ATTENTION, Encoder
from gliclass_rerank.modeling.bert import encode_bert
from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.deberta import can_pack_deberta, encode_deberta
from gliclass_rerank.modeling.modernbert import can_pack_modernbert, encode_modernbert

_Encode = Callable[[Encoder, dict[str, Tensor], Tensor, Sequence[int], int, Tensor], Tensor]


class Family(NamedTuple):
    """How encoders of one kind run.

    Attributes:
        encode: Runs the encoder on packed sequences; None if it needs padded ones. Its arguments are the encoder; its
            inputs, either ``input_ids`` (1, tokens) or ``inputs_embeds`` (1, tokens, hidden); the place of each token
            in its sequence (1, tokens), from 0; the tokens of each sequence; the index of the hidden states to
            return, -1 for the last; and the indices of the tokens whose vectors to return. It returns (rows, hidden).
        can_pack: Whether ``encode`` can run an encoder with its settings.
        attention: The attention that transformers uses in it.
    """

    encode: _Encode | None
    can_pack: Callable[[Encoder], bool] = lambda _: True
    attention: str = PACKED_ATTENTION


_BERT = Family(encode_bert)
FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    # DeBERTa and MPNet compute attention in a way of their own, so transformers has no other function for them.
    "deberta-v2": Family(encode_deberta, can_pack_deberta, attention="eager"),
    "distilbert": _BERT,
    "electra": _BERT,
    "modernbert": Family(encode_modernbert, can_pack_modernbert),
    "mpnet": Family(None, attention="eager"),
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}


def build_encoder(config: GLiClassConfig) -> PreTrainedModel:
    """Build the encoder that a config describes, with random weights in fp32.

    Args:
        config: The checked settings.
    """
    kind, settings = config.encoder_config["model_type"], config.encoder_settings
    # The attention is named here, so that nothing in the checkpoint can choose (and download) another.
    encoder: PreTrainedModel = AutoModel.from_config(  # type: ignore[no-untyped-call]
        CONFIG_MAPPING[kind](**settings),
        attn_implementation=FAMILIES[kind].attention,
        trust_remote_code=False,
        dtype=torch.float32,
    )
    return encoder


def can_pack(encoder: Encoder) -> bool:
    """Whether an encoder can run on packed sequences."""
    family = FAMILIES[encoder.config.model_type]
    # Training may have given the encoder another attention.
    chosen = encoder.config._attn_implementation == family.attention
    return family.encode is not None and chosen and family.can_pack(encoder)


def encode_packed(
    encoder: Encoder, inputs: dict[str, Tensor], lengths: Sequence[int], layer: int, rows: Tensor
) -> Tensor:
    """Run an encoder on sequences that follow one another.

    Args:
        encoder: One that ``can_pack``.
        inputs: ``input_ids`` (1, tokens) or ``inputs_embeds`` (1, tokens, hidden).
        lengths: Tokens of each sequence.
        layer: Index of the hidden states to return; -1 for the last.
        rows: (rows) indices of the tokens whose vectors to return. ModernBERT and DeBERTa compute only these after
            the attention of the last layer.

    Returns:
        (rows, hidden) token vectors.
    """
    encode = FAMILIES[encoder.config.model_type].encode
    if encode is None:
        raise ValueError(f"a {encoder.config.model_type} encoder runs on padded sequences only.")
    tokens = sum(lengths)
    padding = bucket_tokens(tokens) - tokens  # these tokens see nothing and no sequence sees them
    inputs = {name: nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, padding)) for name, x in inputs.items()}
    [device] = {x.device for x in inputs.values()}
    counted = [torch.arange(length) for length in lengths]
    positions = torch.cat([*counted, torch.zeros(padding, dtype=torch.long)]).to(device)[None]
    bucketed_rows = nn.functional.pad(rows, (0, bucket_tokens(len(rows)) - len(rows)))
    return encode(encoder, inputs, positions, lengths, layer, bucketed_rows)[: len(rows)]


def bucket_tokens(tokens: int) -> int:
    """Round up to one of few sizes, so that oneDNN reuses the kernels that it compiled.

    It compiles one for each new shape, and remembers a thousand. At most 3 % is added, but for few tokens.
    """
    step = 1 << max(3, tokens.bit_length() - 6)
    return -(-tokens // step) * step
