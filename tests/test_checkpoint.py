"""Loading and saving checkpoints, as the official library and others write them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.engine.checkpoint import load_checkpoint, save_checkpoint
from gliclass_rerank.modeling.config import ENCODERS as ALL_ENCODERS
from gliclass_rerank.modeling.config import GLiClassConfig
from tests.conftest import PASSAGES
from tests.edited_checkpoints import QUERY, edit_config, edit_weights, scores
from tests.random_checkpoints import ENCODERS, OfficialPipeline


@pytest.fixture
def folder(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a good checkpoint, to be spoiled."""
    source = checkpoint_folder(scorer_type="mlp", pooling_strategy="avg", prompt_first=True)
    return Path(shutil.copytree(source, tmp_path / "copy"))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_is_saved_here_loads_in_the_official_library(
    encoder: str, checkpoint_folder: Callable[..., Path], tmp_path: Path
) -> None:
    options = {"normalize_features": True, "class_token_pooling": "average", "use_segment_embeddings": True}
    source = checkpoint_folder(encoder, scorer_type="weighted-dot", prompt_first=True, **options)
    checkpoint = load_checkpoint(source)
    save_checkpoint(checkpoint.network, checkpoint.tokenizer, tmp_path)
    expected = OfficialPipeline(source).score(QUERY, PASSAGES)
    assert OfficialPipeline(tmp_path).score(QUERY, PASSAGES) == pytest.approx(expected, abs=1e-6)
    assert scores(tmp_path) == pytest.approx(expected, abs=1e-5)


def test_half_precision_weights_load(folder: Path) -> None:
    before = scores(folder)
    checkpoint = load_checkpoint(folder)
    save_checkpoint(checkpoint.network, checkpoint.tokenizer, folder, dtype=torch.float16)
    assert load_file(folder / "model.safetensors")["model.scorer.mlp.0.weight"].dtype == torch.float16
    assert scores(folder) == pytest.approx(before, abs=2e-2)


def test_weights_in_several_files_load(folder: Path) -> None:
    before = scores(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in files.items():
        save_file({key: state[key] for key in keys}, folder / file)
    index = {"weight_map": {key: file for file, keys in files.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert scores(folder) == before


def test_names_without_their_prefix_and_old_position_tensors_load(folder: Path) -> None:
    """Checkpoints of June 2024 look like this."""
    before = scores(folder)

    def make_old(state: dict[str, torch.Tensor]) -> None:
        for name in list(state):
            state[name.removeprefix("model.")] = state.pop(name)
        state["position_embeddings"] = torch.zeros(3)

    edit_weights(folder, make_old)
    assert scores(folder) == before


def test_a_missing_scale_that_nothing_reads_is_no_fault(folder: Path) -> None:
    before = scores(folder)
    edit_weights(folder, lambda state: state.pop("model.logit_scale"))
    assert scores(folder) == before


def test_settings_that_the_encoder_does_not_read_cost_nothing(folder: Path) -> None:
    before = scores(folder)
    encoder = json.loads((folder / "config.json").read_text())["encoder_config"]
    edit_config(folder, encoder_config={**encoder, "num_labels": 50_000_000, "chunk_size_feed_forward": 10**9})
    assert scores(folder) == before


@pytest.mark.parametrize("encoder", ENCODERS)
def test_loading_draws_no_random_numbers_and_leaves_nothing_unfilled(
    encoder: str, checkpoint_folder: Callable[..., Path]
) -> None:
    folder = checkpoint_folder(encoder, scorer_type="mlp", use_lstm=True, use_segment_embeddings=True)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    network = load_checkpoint(folder).network
    assert torch.equal(torch.rand(2), expected)
    assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))


def test_control_tokens_behind_the_vocabulary_are_the_default() -> None:
    raw = {"model_type": "GLiClass", "encoder_config": {"model_type": "roberta", "vocab_size": 90, "pad_token_id": 1}}
    config = GLiClassConfig.from_dict(raw)
    assert (config.class_token_index, config.text_token_index, config.example_token_index) == (90, 91, 92)
    assert config.max_positions == 510  # of 512, two stand before the first token
    assert config.encoder_hidden_size == 768


_HUB_SCRIPT = """
import sys
from gliclass_rerank.engine.checkpoint import CheckpointError, load_checkpoint
print(load_checkpoint("someone/reranker").name)
try:
    load_checkpoint("someone/absent")
except CheckpointError as error:
    print(error)
"""


def test_the_hub_is_used_through_its_cache_and_a_name_not_in_it_is_one_error(folder: Path, tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--someone--reranker"
    commit = "0" * 40
    shutil.copytree(folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _HUB_SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == "someone/reranker"
    assert "cannot get 'someone/absent' from the hub" in second and "local folder" in second


def test_max_length_defaults_to_what_the_encoder_can_take(checkpoint_folder: Callable[..., Path]) -> None:
    assert load_checkpoint(checkpoint_folder("bert")).max_length == 512
    assert load_checkpoint().max_length == 512


@pytest.mark.parametrize("encoder", ALL_ENCODERS)
def test_a_passage_may_fill_all_positions(encoder: str, checkpoint_folder: Callable[..., Path]) -> None:
    reranker = GLiClassReranker.from_pretrained(checkpoint_folder(encoder, prompt_first=True), device="cpu")
    [hit] = reranker.rank(QUERY, ["bread rises " * 1000])
    assert hit.truncated


def test_only_encoders_with_absolute_positions_limit_max_length(checkpoint_folder: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"max_length is 513, but .* only 512"):
        GLiClassReranker.from_pretrained(checkpoint_folder("bert"), max_length=513)
    for encoder in ("modernbert", "deberta-v2"):
        reranker = GLiClassReranker.from_pretrained(checkpoint_folder(encoder, prompt_first=True), max_length=2000)
        assert not reranker.rank(QUERY, ["bread " * 600])[0].truncated


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_torch_does_not_matter(dtype: torch.dtype, folder: Path) -> None:
    torch.set_default_dtype(dtype)
    try:
        checkpoint = load_checkpoint(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in checkpoint.network.parameters()} == {torch.float32}


def test_weights_too_large_for_half_precision_are_not_saved(checkpoint_folder, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(checkpoint_folder("bert"))
    next(checkpoint.network.parameters()).data.fill_(1e6)
    with pytest.raises(FloatingPointError, match="nothing was saved"):
        save_checkpoint(checkpoint.network, checkpoint.tokenizer, tmp_path / "m", dtype=torch.float16)
    assert not list((tmp_path / "m").iterdir())
