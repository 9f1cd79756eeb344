"""Packed sequences get the scores of padded ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gliclass_rerank.engine.checkpoint import load_checkpoint
from gliclass_rerank.engine.scorer import TOKEN_BUDGETS, GLiClassScorer, pad
from gliclass_rerank.modeling.attention import LocalAttention, packed_attention
from gliclass_rerank.modeling.encoders import bucket_tokens
from gliclass_rerank.prompt.builder import Prompt

RNG = random.Random(3)
WORDS = ["bread", "rises", "because", "yeast", "makes", "gas", "and", "leaves", "turn", "light", "into", "sugar"]
# The longest are beyond ModernBERT's window and DeBERTa's near distances.
PASSAGES = [" ".join(RNG.choices(WORDS, k=count)) for count in (0, 1, 7, 8, 9, 40, 90, 200)]
PACKED = ("bert", "deberta-v2", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta")
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"use_segment_embeddings": True},
    {"layer_wise": True, "encoder_layer_id": 0},
    {"layer_wise": True, "encoder_layer_id": 1},
    {"layer_wise": True, "encoder_layer_id": 2},
    {"pooling_strategy": "pass", "scorer_type": "cross-attn", "prompt_first": False},
    {"pooling_strategy": "first"},
    {"pooling_strategy": "first", "layer_wise": True, "encoder_layer_id": 0, "embed_class_token": False},
    {"pooling_strategy": "first", "layer_wise": True, "encoder_layer_id": 1},
    {"pooling_strategy": "first", "extract_text_features": True, "class_token_pooling": "average"},
    {"pooling_strategy": "first", "embed_class_token": False, "prompt_first": False},
    {"pooling_strategy": "first", "use_lstm": True},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("encoder", PACKED)
def test_packed_logits_are_those_of_padded_sequences(
    encoder: str, options: dict[str, Any], checkpoint_folder: Callable[..., Path]
) -> None:
    chosen = {"pooling_strategy": "avg", "scorer_type": "mlp", "prompt_first": True, **options}
    checkpoint = load_checkpoint(checkpoint_folder(encoder, **chosen))
    prompts = checkpoint.prompts.build(["does bread rise?", "why"], PASSAGES, 300)
    ids = torch.tensor([i for prompt in prompts for i in prompt.ids])
    with torch.inference_mode():
        padded = checkpoint.network(*pad(prompts, torch.device("cpu")), 2)
        packed = checkpoint.network.score_packed(ids, [len(prompt.ids) for prompt in prompts], 2)
    assert checkpoint.network.can_pack
    assert padded.std() > 0.01
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("encoder", "parts"),
    [
        ("modernbert", ("layers.1.attn.Wo", "layers.1.mlp")),
        ("deberta-v2", ("encoder.layer.1.attention.output", "encoder.layer.1.output")),
    ],
)
def test_the_last_layer_is_finished_for_the_tokens_that_the_head_reads(
    encoder: str, parts: tuple[str, str], checkpoint_folder: Callable[..., Path]
) -> None:
    network = load_checkpoint(checkpoint_folder(encoder, pooling_strategy="first", scorer_type="mlp")).network
    rows = []
    for part in parts:
        module = network.encoder_model.get_submodule(part)
        module.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    ids = torch.full((160,), 7)
    ids[[1, 4, 10, 15, 20, 25, 103, 120]] = network.config.class_token_index
    network.score_packed(ids, [100, 60], 6)
    assert rows == [bucket_tokens(10)] * 2  # the first token of each sequence, and the labels


def test_an_encoder_with_an_attention_of_its_own_is_not_packed(checkpoint_folder: Callable[..., Path]) -> None:
    assert not load_checkpoint(checkpoint_folder("mpnet", scorer_type="mlp")).network.can_pack


def test_a_window_that_sees_nothing_is_not_packed(checkpoint_folder: Callable[..., Path]) -> None:
    network = load_checkpoint(checkpoint_folder("modernbert", scorer_type="mlp")).network
    assert network.can_pack
    network.encoder_model.config.sliding_window = 0
    assert not network.can_pack


def test_rows_are_rounded_up_to_few_lengths() -> None:
    lengths = range(1, TOKEN_BUDGETS["cpu"] + 1)  # of a batch
    assert len({bucket_tokens(length) for length in lengths[:1024]}) < 100
    assert len({bucket_tokens(length) for length in lengths}) < 120
    assert all(length <= bucket_tokens(length) <= max(length + 7, 1.04 * length) for length in lengths)


class Packed(nn.Module):
    """A network that runs packed sequences alone."""

    can_pack = True

    def __init__(self) -> None:
        super().__init__()
        self.encoder_model = nn.Identity()

    def score_packed(self, input_ids: Tensor, lengths: list[int], num_labels: int) -> Tensor:
        return torch.stack([part.sum().float() for part in input_ids.split(lengths)])[:, None].expand(-1, num_labels)


def test_on_a_cpu_sequences_run_without_padding() -> None:
    prompts = [Prompt([7] * length, 2, truncated=False) for length in (3, 1, 9)]
    logits = GLiClassScorer(Packed(), device="cpu", dtype="float32").logits(prompts)  # type: ignore[arg-type]
    assert logits.tolist() == [[21, 21], [7, 7], [63, 63]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[1], [9], [4, 1, 23, 5], [8, 8, 8], [40, 3]], ids=str)
def test_a_window_sees_its_neighbours_and_no_other_sequence(lengths: list[int], dtype: torch.dtype) -> None:
    reach, heads, size = 4, 2, 8
    torch.manual_seed(0)
    query, key, value = (torch.randn(heads, sum(lengths), size).to(dtype) for _ in range(3))
    number = torch.tensor([i for i, length in enumerate(lengths) for _ in range(length)])
    place = torch.arange(sum(lengths))
    seen = (number[:, None] == number) & ((place[:, None] - place).abs() <= reach)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.float(), key.float(), value.float(), attn_mask=seen, scale=0.3
    )
    attended = LocalAttention(lengths, reach, query[0]).attend(query, key, value, 0.3)
    torch.testing.assert_close(
        attended.float(), expected.transpose(0, 1), atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sequence_is_attended_as_if_it_were_alone(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    lengths = [5, 300, 7, 2100]  # some are beyond what plain products are for
    query, key, value = (torch.randn(2, sum(lengths), 8).to(dtype) for _ in range(3))
    together = packed_attention(query, key, value, lengths, 0.3)
    start = 0
    for length in lengths:
        part = [x[:, start : start + length].float() for x in (query, key, value)]
        alone = torch.nn.functional.scaled_dot_product_attention(*part, scale=0.3).transpose(0, 1)
        tolerance = 1e-5 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(together[start : start + length].float(), alone, atol=tolerance, rtol=0)
        start += length
