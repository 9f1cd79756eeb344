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
    """Run an encoder of the BERT family on packed sequences; ``encoders.Family`` explains the arguments."""
    if encoder.config.model_type in OFFSET_POSITIONS:
        positions = positions + encoder.config.pad_token_id + 1
    output = encoder(**inputs, position_ids=positions, lengths=lengths, output_hidden_states=layer != -1)
    vectors: Tensor = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    return vectors[0, rows]
