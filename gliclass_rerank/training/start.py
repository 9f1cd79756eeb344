"""Turn a bare sentence encoder into a GLiClass network that ranks from its first step.

The head starts as (nearly) the encoder's own cosine similarity: text and query are averaged over
their tokens, projected by (nearly) the identity, normalised, and compared by an MLP that was
fitted to the cosine. The MLP, unlike a dot product, has a bias, without which scores could not be
calibrated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.modeling.heads import MlpScorer, Projector
from gliclass_rerank.prompt import EXAMPLE_TOKEN, LABEL_TOKEN, TEXT_TOKEN
from gliclass_rerank.training.cosine_head import fit_cosine
from gliclass_rerank.training.encoders import encode, load_encoder

# GELU is nearly the identity for inputs well above zero: shift there, and back afterwards.
_SHIFT = 4.0
# Logits at the start: those of pairs that belong together lie around zero.
_SCALE = 20.0
_OFFSET = -12.0
_TEXTS = 4000  # of either kind at most, to fit the head with


def start_from_encoder(
    folder: str | os.PathLike[str], name: str, passages: Sequence[str] = (), questions: Sequence[str] = ()
) -> tuple[GLiClassNetwork, PreTrainedTokenizerBase]:
    """Build a network around an encoder.

    Args:
        folder: A local folder with the encoder's config.json, safetensors weights and tokenizer.
        name: What the config calls the encoder.
        passages: Texts of the kind that it will read; the head is fitted on some of them, and
            starts at random without any.
        questions: The same.

    Returns:
        The network and its tokenizer, extended by GLiClass's control tokens.

    Raises:
        OSError: A file is missing.
        ValueError: The encoder is of a kind that GLiClass does not run on.

    Example:
        >>> network, tokenizer = start_from_encoder("MiniLM", "MiniLM")  # doctest: +SKIP
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    bare = load_encoder(folder, torch.float32)
    encoder = bare.config
    tokenizer.add_tokens([LABEL_TOKEN, TEXT_TOKEN, EXAMPLE_TOKEN], special_tokens=True)
    raw = {
        "model_type": "GLiClass",
        "encoder_model_name": name,  # the official library cannot load a config without it
        "encoder_config": {**encoder.to_diff_dict(), "model_type": encoder.model_type},
        "vocab_size": max(encoder.vocab_size, len(tokenizer)),
        "class_token_index": tokenizer.convert_tokens_to_ids(LABEL_TOKEN),
        "text_token_index": tokenizer.convert_tokens_to_ids(TEXT_TOKEN),
        "example_token_index": tokenizer.convert_tokens_to_ids(EXAMPLE_TOKEN),
        "pooling_strategy": "avg",
        "class_token_pooling": "average",
        "extract_text_features": True,
        "normalize_features": True,
        "logit_scale_init_value": 1.0,
        "scorer_type": "mlp",
        "prompt_first": True,
        "problem_type": "multi_label_classification",
        "max_labels_alloc": "dynamic",
    }
    network = GLiClassNetwork(GLiClassConfig.from_dict(raw))
    control_ids = [raw[f"{kind}_token_index"] for kind in ("class", "text", "example")]
    _load_encoder(network.encoder_model, bare, control_ids)
    for projector in (network.text_projector, network.classes_projector):
        _start_as_identity(projector)
    if passages and questions:
        vectors = [encode(folder, _some(texts)) for texts in (passages, questions)]
        fit_cosine(cast("MlpScorer", network.scorer).mlp, *vectors, scale=_SCALE, offset=_OFFSET)
    return network, tokenizer


def _some(texts: Sequence[str]) -> Sequence[str]:
    return texts[:: -(-len(texts) // _TEXTS)]


@torch.no_grad()
def _load_encoder(encoder: PreTrainedModel, bare: PreTrainedModel, control_ids: list[int]) -> None:
    """Load the bare encoder's weights; control tokens start at the mean of all tokens."""
    old = _embeddings(bare)
    mean = old.mean(0, keepdim=True)
    weights = bare.state_dict()
    name = next(key for key, parameter in encoder.named_parameters() if parameter is _embeddings(encoder))
    weights[name] = torch.cat([old, mean.repeat(len(_embeddings(encoder)) - len(old), 1)])
    weights[name][control_ids] = mean
    encoder.load_state_dict(weights)


def _embeddings(encoder: PreTrainedModel) -> torch.Tensor:
    return cast("nn.Embedding", encoder.get_input_embeddings()).weight


@torch.no_grad()
def _start_as_identity(projector: Projector) -> None:
    for linear, shift in ((projector.linear_1, _SHIFT), (projector.linear_2, -_SHIFT)):
        nn.init.eye_(linear.weight)
        nn.init.constant_(linear.bias, shift)
