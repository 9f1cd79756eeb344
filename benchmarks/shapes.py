"""Checkpoints of the published shapes with random weights: how long a pass takes does not depend on their values.

Shapes after the model cards and configs of the v3.0 checkpoints (knowledgator/gliclass-*-v3.0). The
tokenizer is the bundled model's, for every contender alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gliclass_rerank.engine.checkpoint import BUNDLED, load_checkpoint, save_checkpoint
from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.prompt.builder import EXAMPLE_TOKEN, LABEL_TOKEN, TEXT_TOKEN


def _modernbert(hidden: int, layers: int, heads: int, intermediate: int) -> dict[str, Any]:
    return {
        "model_type": "modernbert",
        "vocab_size": 50370,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "max_position_embeddings": 8192,
        "pad_token_id": 0,  # the tokenizer's, and so are the next two
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }


def _deberta(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "deberta-v2",
        "vocab_size": 128003,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": 512,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
        "pad_token_id": 0,
    }


SHAPES: dict[str, tuple[dict[str, Any], str]] = {  # encoder and type of scorer
    "edge": (_modernbert(384, 10, 6, 576), "mlp"),
    "modern-base": (_modernbert(768, 22, 12, 1152), "simple"),
    "modern-large": (_modernbert(1024, 28, 16, 2624), "simple"),
    "base": (_deberta(768, 12, 12), "mlp"),
    "large": (_deberta(1024, 24, 16), "mlp"),
}


def shape_config(name: str, control_ids: dict[str, int]) -> GLiClassConfig:
    """The config of a shape.

    Args:
        name: One of ``SHAPES``.
        control_ids: Of the tokens "class", "text" and "example".
    """
    encoder, scorer = SHAPES[name]
    return GLiClassConfig.from_dict(
        {
            "model_type": "GLiClass",
            "architecture_type": "uni-encoder",
            "encoder_model_name": name,
            "encoder_config": encoder,
            "vocab_size": encoder["vocab_size"],
            **{f"{kind}_token_index": i for kind, i in control_ids.items()},
            "pooling_strategy": "first",
            "class_token_pooling": "first",
            "scorer_type": scorer,
            "prompt_first": True,
            "max_labels_alloc": "dynamic",
        }
    )


def make_shape(name: str, folder: Path) -> Path:
    """Write a checkpoint of a shape.

    Args:
        name: One of ``SHAPES``, or "bundled" for the bundled model, which is not written.
        folder: Where checkpoints of all shapes are kept.
    """
    if name == "bundled":
        return BUNDLED
    tokenizer = load_checkpoint().tokenizer
    tokens = {"class": LABEL_TOKEN, "text": TEXT_TOKEN, "example": EXAMPLE_TOKEN}
    config = shape_config(name, {kind: int(tokenizer.vocab[token]) for kind, token in tokens.items()})
    torch.manual_seed(0)
    save_checkpoint(GLiClassNetwork(config), tokenizer, folder / name)
    return folder / name
