"""The settings of an encoder that a checkpoint may choose, and their ranges.

transformers would take any key: it would make a list of 50 million label names, or tables for 500 million positions.
It gets only the keys below, which decide what an encoder computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MAX_HIDDEN_SIZE = 1 << 14
MAX_VOCAB_SIZE = 1 << 22
_MAX_LAYERS = 256
_MAX_POSITIONS = 1 << 20

_RANGES: dict[str, tuple[int, int]] = {
    "attention_head_size": (1, MAX_HIDDEN_SIZE),
    "conv_groups": (1, 1024),
    "conv_kernel_size": (0, 255),
    "dim": (1, MAX_HIDDEN_SIZE),
    "embedding_size": (1, MAX_HIDDEN_SIZE),
    "global_attn_every_n_layers": (1, _MAX_LAYERS),
    "head_dim": (1, MAX_HIDDEN_SIZE),
    "hidden_dim": (1, 1 << 17),
    "hidden_size": (1, MAX_HIDDEN_SIZE),
    "intermediate_size": (1, 1 << 17),
    "local_attention": (0, _MAX_POSITIONS),
    "max_position_embeddings": (1, _MAX_POSITIONS),
    "max_relative_positions": (-1, _MAX_POSITIONS),
    "n_heads": (1, 1024),
    "n_layers": (1, _MAX_LAYERS),
    "num_attention_heads": (1, 1024),
    "num_hidden_layers": (1, _MAX_LAYERS),
    "pad_token_id": (0, MAX_VOCAB_SIZE),
    "position_buckets": (-1, _MAX_POSITIONS),
    "relative_attention_num_buckets": (4, 1 << 16),
    "type_vocab_size": (0, 1024),
    "vocab_size": (1, MAX_VOCAB_SIZE),
}
_NUMBERS: dict[str, tuple[float, float]] = {
    "attention_dropout": (0, 1),
    "attention_probs_dropout_prob": (0, 1),
    "dropout": (0, 1),
    "embedding_dropout": (0, 1),
    "global_rope_theta": (1, 1e9),
    "hidden_dropout_prob": (0, 1),
    "initializer_cutoff_factor": (0, 100),
    "initializer_range": (0, 100),
    "layer_norm_eps": (0, 1),
    "local_rope_theta": (1, 1e9),
    "mlp_dropout": (0, 1),
    "norm_eps": (0, 1),
    "pooler_dropout": (0, 1),
}
_BOOLEANS = (
    "attention_bias",
    "mlp_bias",
    "norm_bias",
    "position_biased_input",
    "relative_attention",
    "share_att_key",
    "sinusoidal_pos_embds",
)
_NAMES = ("activation", "conv_act", "hidden_act", "hidden_activation", "norm_rel_ebd")
_POSITION_TYPES = ("c2p", "p2c")
_LAYER_TYPES = ("full_attention", "sliding_attention")


def select_settings(encoder_config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that transformers may build an encoder from, ``model_type`` excepted.

    Args:
        encoder_config: The encoder's part of a config.json.

    Raises:
        ValueError: A setting is out of its range, or of another type; the message names key and value.

    Example:
        >>> select_settings({"model_type": "bert", "hidden_size": 32, "num_labels": 50_000_000})
        {'hidden_size': 32}
    """
    settings: dict[str, Any] = {}
    for key, value in encoder_config.items():
        if key not in _CHECKS:
            continue
        check, expected = _CHECKS[key]
        if value is None and key in ("layer_types", "pad_token_id", "pos_att_type", "rope_parameters", "rope_scaling"):
            settings[key] = value
            continue
        if not check(value):
            raise ValueError(f"config.json has encoder_config.{key} {repr(value)[:80]}, expected {expected}.")
        settings[key] = value
    return settings


def _in_range(low: float, high: float, types: tuple[type, ...]) -> Callable[[Any], bool]:
    def is_in_range(value: Any) -> bool:  # noqa: ANN401 - any JSON value
        is_number = isinstance(value, types) and not isinstance(value, bool)
        return is_number and bool(low <= value <= high)

    return is_in_range


def _are_position_types(value: object) -> bool:
    names = value.lower().split("|") if isinstance(value, str) else value
    return isinstance(names, list) and all(str(name).strip() in _POSITION_TYPES for name in names)


def _are_layer_types(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_LAYERS and all(item in _LAYER_TYPES for item in value)


def _are_rope_parameters(value: object) -> bool:
    """Whether these are plain rotary positions, the only ones that a published checkpoint has."""
    return isinstance(value, dict) and all(
        kind in _LAYER_TYPES and (parameters is None or _is_plain_rope(parameters))
        for kind, parameters in value.items()
    )


def _is_plain_rope(parameters: object) -> bool:
    return (
        isinstance(parameters, dict)
        and parameters.keys() <= {"rope_type", "rope_theta"}
        and parameters.get("rope_type", "default") == "default"
        and _in_range(1, 1e9, (int, float))(parameters.get("rope_theta", 1))
    )


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **{
        key: (_in_range(*range_, (int,)), "an integer from {} to {}".format(*range_)) for key, range_ in _RANGES.items()
    },
    **{
        key: (_in_range(*range_, (int, float)), "a number from {} to {}".format(*range_))
        for key, range_ in _NUMBERS.items()
    },
    **dict.fromkeys(_BOOLEANS, (lambda value: isinstance(value, bool), "true or false")),
    **dict.fromkeys(_NAMES, (lambda value: isinstance(value, str), "a name")),
    "pos_att_type": (_are_position_types, f"a list of {', '.join(_POSITION_TYPES)}"),
    "layer_types": (_are_layer_types, f"a list of {', '.join(_LAYER_TYPES)}"),
    "rope_parameters": (_are_rope_parameters, "rope_type 'default' and a rope_theta for each type of layer"),
    "rope_scaling": (lambda _: False, "null: scaled rotary positions are not supported"),
}
