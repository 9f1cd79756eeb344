from __future__ import annotations

import pytest
import torch

from gliclass_rerank.engine.checkpoint import load_checkpoint, save_checkpoint
from gliclass_rerank.training.lora import LORA_PRESETS, add_lora, merge_lora
from tests.random_checkpoints import CONTROL_TOKENS, make_tokenizer

# The published checkpoints' encoder, head and tokenizer, small.
ARCHITECTURES = {
    "modern-base": ("modernbert", "simple"),
    "modern-large": ("modernbert", "simple"),
    "base": ("deberta-v2", "mlp"),
    "large": ("deberta-v2", "mlp"),
    "bundled": ("bert", "mlp"),
}


def test_the_presets_are_those_of_the_model_card() -> None:
    settings = {name: (p.r, p.alpha, p.focal_alpha) for name, p in LORA_PRESETS.items() if name != "bundled"}
    assert settings == {
        "modern-base": (512, 1024, 0.7),
        "modern-large": (768, 1536, 0.7),
        "base": (384, 768, 0.7),
        "large": (384, 768, 0.7),
    }
    assert set(LORA_PRESETS) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_merged_checkpoint_scores_as_the_adapted_model(name: str, checkpoint_folder, tmp_path) -> None:
    encoder, scorer = ARCHITECTURES[name]
    folder = checkpoint_folder(encoder, scorer_type=scorer, prompt_first=True)
    checkpoint = load_checkpoint(folder)
    before = {key: tensor.clone() for key, tensor in checkpoint.network.state_dict().items()}
    adapted = add_lora(checkpoint.network, LORA_PRESETS[name]).eval()
    torch.manual_seed(0)
    targets = set()
    for key, parameter in adapted.named_parameters():
        assert parameter.requires_grad == ("lora_" in key)
        if "lora_B" in key:  # zeros until trained
            torch.nn.init.normal_(parameter, std=0.02)
            targets.add(key.split(".lora_B")[0])
    assert {t for t in LORA_PRESETS[name].target_modules if any(f".{key}".endswith(f".{t}") for key in targets)} == set(
        LORA_PRESETS[name].target_modules
    )
    tokenizer = make_tokenizer(
        "byte-bpe" if encoder == "modernbert" else "unigram-first" if encoder == "deberta-v2" else "wordpiece"
    )
    ids = torch.tensor([tokenizer(f"{CONTROL_TOKENS[0]}a question{CONTROL_TOKENS[1]}Bread rises.")["input_ids"]])
    with torch.no_grad():
        scores = adapted(ids, torch.ones_like(ids), 1)
        merged = merge_lora(adapted)
        save_checkpoint(merged, tokenizer, tmp_path)
        loaded = load_checkpoint(tmp_path).network
        torch.testing.assert_close(loaded(ids, torch.ones_like(ids), 1), scores, atol=1e-5, rtol=0)
    after = loaded.state_dict()
    assert after.keys() == before.keys()
    assert any(not torch.equal(after[key], before[key]) for key in before)


def test_a_preset_for_another_architecture_is_refused_with_those_that_fit(checkpoint_folder) -> None:
    network = load_checkpoint(checkpoint_folder("deberta-v2", scorer_type="mlp")).network
    with pytest.raises(ValueError, match=r"no module Wqkv, Wo, Wi, .*presets that fit it: base, large\."):
        add_lora(network, LORA_PRESETS["modern-base"])
