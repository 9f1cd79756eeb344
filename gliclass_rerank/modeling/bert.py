"""BERT and its relatives over packed sequences.

transformers computes these encoders layer by layer with an attention function that can be chosen. Ours
(``attention.PACKED_ATTENTION``) keeps the sequences apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gliclass_rerank.modeling.attention import Encoder
from gliclass_rerank.modeling.config import OFFSET_POSITIONS


def encode_bert(
    encoder: Encoder, inputs: dict[str, Tensor], positions: Tensor, lengths: Sequence[int], layer: int, rows: Tensor
) -> Tensor:
    """Run an encoder of the BERT family on packed sequences.

    Args:
        encoder: A BERT, DistilBERT, ELECTRA, RoBERTa or XLM-RoBERTa model built with ``PACKED_ATTENTION``.
        inputs: ``input_ids`` (1, tokens) or ``inputs_embeds`` (1, tokens, hidden).
        positions: (1, tokens) place of each token in its sequence, from 0.
        lengths: Tokens of each sequence.
        layer: Index of the hidden states to return; -1 for the last.
        rows: (rows) indices of the tokens whose vectors to return.

    Returns:
        (rows, hidden) token vectors.
    """
    if encoder.config.model_type in OFFSET_POSITIONS:
        positions = positions + encoder.config.pad_token_id + 1
    output = encoder(**inputs, position_ids=positions, lengths=lengths, output_hidden_states=layer != -1)
    vectors: Tensor = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    return vectors[0, rows]
