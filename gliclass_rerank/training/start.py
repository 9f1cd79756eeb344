"""Turn a bare sentence encoder into a GLiClass network that ranks from its first step.

A head that starts at random has to be learned before anything else can be, and spoils the encoder
meanwhile. This one starts as the encoder's own cosine similarity, or nearly: text and query are averaged over
their tokens, projected by (nearly) the identity, normalised, and multiplied. The official
"weighted-dot" scorer does that and has a bias, without which scores could not be calibrated.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from gliclass_rerank.engine.weights import read_headers
from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.gliclass import GLiClassNetwork
from gliclass_rerank.modeling.heads import Projector, WeightedDotScorer
from gliclass_rerank.prompt.builder import EXAMPLE_TOKEN, LABEL_TOKEN, TEXT_TOKEN
from gliclass_rerank.training.encoders import load_encoder
from gliclass_rerank.training.sides import EXTRA_UNITS

# GELU is nearly the identity for inputs well above zero: shift there, and back afterwards. A mean
# state's features lie within one or two of zero; those below -3 would be bent.
_SHIFT = 4.0
# Logits at the start: those of pairs that belong together lie around zero.
_SCALE = 20.0
_OFFSET = -12.0


def start_from_encoder(
    folder: str | os.PathLike[str], name: str, *, marks_sides: bool = False
) -> tuple[GLiClassNetwork, PreTrainedTokenizerBase]:
    """Build a network around an encoder.

    Args:
        folder: A local folder with the encoder's config.json, safetensors weights and tokenizer.
        name: What the config calls the encoder.
        marks_sides: Whether the network gets room for what ``sides.separate_sides`` writes: segment embeddings, and a
            few more units in a BERT's feed-forward layers. All are zero here and change no score.

    Returns:
        The network and its tokenizer, extended by GLiClass's control tokens.

    Raises:
        OSError: A file is missing.
        ValueError: The encoder is of a kind that GLiClass does not run on, or its texts begin with no token of their
            own.

    Example:
        >>> network, tokenizer = start_from_encoder("MiniLM", "MiniLM")  # doctest: +SKIP
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    bare = load_encoder(folder, torch.float32)
    encoder = bare.config
    if tokenizer.cls_token_id is None:
        raise ValueError(f"{name} has no token that begins a text, so it is no sentence encoder. Choose another start.")
    tokenizer.add_tokens([LABEL_TOKEN, TEXT_TOKEN, EXAMPLE_TOKEN], special_tokens=True)
    encoder_config = {**encoder.to_diff_dict(), "model_type": encoder.model_type}
    if marks_sides and encoder.model_type == "bert":
        encoder_config["intermediate_size"] = encoder.intermediate_size + EXTRA_UNITS
    raw = {
        "model_type": "GLiClass",
        "encoder_model_name": name,  # the official library cannot load a config without it
        "encoder_config": encoder_config,
        "use_segment_embeddings": marks_sides,
        "vocab_size": max(encoder.vocab_size, len(tokenizer)),
        "class_token_index": tokenizer.convert_tokens_to_ids(LABEL_TOKEN),
        "text_token_index": tokenizer.convert_tokens_to_ids(TEXT_TOKEN),
        "example_token_index": tokenizer.convert_tokens_to_ids(EXAMPLE_TOKEN),
        "pooling_strategy": "avg",
        "class_token_pooling": "average",
        "extract_text_features": True,
        "normalize_features": True,
        "logit_scale_init_value": 1.0,
        "scorer_type": "weighted-dot",
        "prompt_first": True,
        "problem_type": "multi_label_classification",
        "max_labels_alloc": "dynamic",
    }
    network = GLiClassNetwork(GLiClassConfig.from_dict(raw))
    control_ids = [raw[f"{kind}_token_index"] for kind in ("class", "text", "example")]
    _load_encoder(network.encoder_model, bare, control_ids, tokenizer.cls_token_id)
    if marks_sides:
        nn.init.zeros_(network.segment_embeddings.weight)
    for projector in (network.text_projector, network.classes_projector):
        _start_as_identity(projector)
    _start_as_product(cast("WeightedDotScorer", network.scorer))
    return network.eval(), tokenizer


def stored_dtype(folder: Path) -> torch.dtype:
    """The type that most weights of a checkpoint or encoder are stored in; fp32 for types that are neither of 16 bits.

    Args:
        folder: With safetensors weights.

    Raises:
        CheckpointError: The weights are missing or damaged.

    Example:
        >>> from gliclass_rerank.engine.checkpoint import BUNDLED
        >>> stored_dtype(BUNDLED)
        torch.float16
    """
    sizes: Counter[str] = Counter()
    for tensor in read_headers(folder).values():
        sizes[tensor.dtype] += math.prod(tensor.shape)
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(max(sizes, key=sizes.__getitem__), torch.float32)


@torch.no_grad()
def _load_encoder(encoder: PreTrainedModel, bare: PreTrainedModel, control_ids: list[int], first_id: int) -> None:
    """Load the bare encoder's weights; control tokens start as the token that begins the encoder's own texts."""
    old = _embeddings(bare)
    bare_weights = bare.state_dict()
    weights = {key: _grow(bare_weights[key], weight.shape) for key, weight in encoder.state_dict().items()}
    name = next(key for key, parameter in encoder.named_parameters() if parameter is _embeddings(encoder))
    weights[name][[*range(len(old), len(weights[name])), *control_ids]] = old[first_id]
    encoder.load_state_dict(weights)


def _grow(weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A copy of a weight with zeros behind its ends, where a larger shape asks for them."""
    grown = torch.zeros(shape, dtype=weight.dtype)
    grown[tuple(slice(size) for size in weight.shape)] = weight
    return grown


def _embeddings(encoder: PreTrainedModel) -> torch.Tensor:
    return cast("nn.Embedding", encoder.get_input_embeddings()).weight


@torch.no_grad()
def _start_as_identity(projector: Projector) -> None:
    for linear, shift in ((projector.linear_1, _SHIFT), (projector.linear_2, -_SHIFT)):
        nn.init.eye_(linear.weight)
        nn.init.constant_(linear.bias, shift)


@torch.no_grad()
def _start_as_product(scorer: WeightedDotScorer) -> None:
    """``_SCALE`` times the product of text and label, and ``_OFFSET``.

    Two hidden units carry it, since relu(z) - relu(-z) is z. The others are zero and get no
    gradient: with them the scorer would be an MLP, which learns its training questions' patterns
    instead of how to compare.
    """
    for parameter in scorer.parameters():
        parameter.zero_()
    hidden = scorer.proj_text.in_features
    for projection in (scorer.proj_text, scorer.proj_label):
        nn.init.eye_(projection.weight[hidden:])
    first, last = (layer for layer in scorer.out_mlp if isinstance(layer, nn.Linear))
    for unit, sign in enumerate((1.0, -1.0)):
        first.weight[unit, 2 * hidden :] = sign * _SCALE
        last.weight[0, unit] = sign
    last.bias.fill_(_OFFSET)
