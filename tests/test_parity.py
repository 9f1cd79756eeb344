"""Scores are those of the official pipeline at batch size 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.engine.checkpoint import load_checkpoint
from gliclass_rerank.engine.scorer import GLiClassScorer
from gliclass_rerank.modeling.config import ENCODERS as ALL_ENCODERS
from tests.conftest import PASSAGES
from tests.random_checkpoints import ENCODERS, TOKENIZERS, OfficialPipeline, covering_grid, write_checkpoint

QUERY = "does bread rise?"
COVERING = covering_grid()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("options", COVERING, ids=range(len(COVERING)))
def test_scores_equal_the_official_ones(encoder: str, options: dict[str, Any], tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, encoder, **options)
    reranker = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32")
    # All passages in one call: the padding of a batch must not show.
    assert reranker.score(QUERY, PASSAGES) == pytest.approx(OfficialPipeline(folder).score(QUERY, PASSAGES), abs=1e-5)


@pytest.mark.parametrize("encoder", ALL_ENCODERS)
@pytest.mark.parametrize("layer", [-3, -2, -1, 1])
def test_every_encoder_gives_the_official_scores(encoder: str, layer: int, tmp_path: Path) -> None:
    options = {"prompt_first": True, "pooling_strategy": "avg", "scorer_type": "mlp", "layer_wise": True}
    folder = write_checkpoint(tmp_path, encoder, encoder_layer_id=layer, **options)
    reranker = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32")
    assert reranker.score(QUERY, PASSAGES) == pytest.approx(OfficialPipeline(folder).score(QUERY, PASSAGES), abs=1e-5)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("prompt_first", [True, False])
def test_every_tokenizer_gives_the_official_scores(tokenizer: str, prompt_first: bool, tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path, "bert", tokenizer=tokenizer, prompt_first=prompt_first, pooling_strategy="avg", scorer_type="mlp"
    )
    reranker = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32")
    assert reranker.score(QUERY, PASSAGES) == pytest.approx(OfficialPipeline(folder).score(QUERY, PASSAGES), abs=1e-5)


@pytest.mark.parametrize("scorer", ["simple", "weighted-dot", "mlp", "hopfield", "cross-attn"])
def test_several_labels_in_one_sequence(scorer: str, checkpoint_folder: Callable[..., Path]) -> None:
    pooling = "pass" if scorer == "cross-attn" else "first"
    folder = checkpoint_folder(scorer_type=scorer, pooling_strategy=pooling, prompt_first=True)
    labels = ["bread", "sugar from leaves", "a bicycle"]
    checkpoint = load_checkpoint(folder)
    prompts = checkpoint.prompts.build(labels, PASSAGES, 512)
    logits = GLiClassScorer(checkpoint.network, device="cpu", dtype="float32").logits(prompts)
    official = OfficialPipeline(folder)
    for passage, row in zip(PASSAGES, logits, strict=True):
        expected = [item["score"] for item in official._pipeline([passage], labels, threshold=0.0)[0]]
        assert torch.tensor(row).sigmoid().tolist() == pytest.approx(expected, abs=1e-5)


def test_a_passage_cut_at_max_length_scores_as_the_official_pipeline_cuts_it(
    checkpoint_folder: Callable[..., Path],
) -> None:
    folder = checkpoint_folder(prompt_first=True, pooling_strategy="avg")
    long = "Bread rises because yeast makes gas. " * 50
    reranker = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32", max_length=64)
    [hit] = reranker.rank(QUERY, [long])
    assert hit.truncated
    assert hit.score == pytest.approx(OfficialPipeline(folder, max_length=64).score(QUERY, [long])[0], abs=1e-5)


def test_examples_turn_all_segments_into_the_third(checkpoint_folder: Callable[..., Path]) -> None:
    """A slip of the official library that its instruct checkpoints were trained with."""
    folder = checkpoint_folder(use_segment_embeddings=True, prompt_first=True)
    checkpoint, official = load_checkpoint(folder), OfficialPipeline(folder)
    ids = official.tokenizer("<<LABEL>>bread<<SEP>>yeast makes gas<<EXAMPLE>>leaves", return_tensors="pt")["input_ids"]
    mask = torch.ones_like(ids)
    with torch.no_grad():
        ours = checkpoint.network(ids, mask, 1)
        theirs = official.model(input_ids=ids, attention_mask=mask, max_num_classes=1).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
