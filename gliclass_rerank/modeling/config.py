"""The settings of a GLiClass checkpoint, checked before anything is built from them.

A checkpoint's config.json is untrusted input. An architecture, option or size that this project does not run is an
error that names it. transformers gets only the settings listed in ``encoder_settings.py``, so no other key can make it
fetch code or take memory.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from gliclass_rerank.modeling.encoder_settings import MAX_HIDDEN_SIZE, MAX_VOCAB_SIZE, select_settings

POOLINGS = ("first", "last", "avg", "max", "sum", "rms", "abs_max", "abs_avg", "pass")
CLASS_POOLINGS = ("first", "average")
SCORERS = ("simple", "weighted-dot", "mlp", "hopfield", "cross-attn")
ENCODERS = ("bert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
# Absolute positions of these encoders start after the padding index.
OFFSET_POSITIONS = ("mpnet", "roberta", "xlm-roberta")
_RANGES = {  # far beyond any published checkpoint; they keep a crafted one from taking gigabytes
    "hidden_size": (1, MAX_HIDDEN_SIZE),
    "vocab_size": (1, MAX_VOCAB_SIZE),
    "scorer_num_heads": (1, 1024),
    "scorer_mlp_hidden_size": (2, 1 << 16),
    "dropout": (0, 1),
    "recommended_threshold": (0, 1),
    "labels_per_prompt": (1, 10_000),
}

_REFUSED = {
    "squeeze_layers": "the official library itself cannot run it, since its layer weights leave out the embeddings",
    "use_calibrator": "no published checkpoint has a calibrator",
    "multimodal": "it belongs to another architecture",
}


@dataclass(frozen=True)
class GLiClassConfig:
    """Settings of a GLiClass uni-encoder, named as in the official config.json.

    Every field has the official library's default (gliclass 0.1.21, ``GLiClassModelConfig``).

    Example:
        >>> config = GLiClassConfig.from_dict({
        ...     "model_type": "GLiClass", "architecture_type": "uni-encoder", "vocab_size": 100,
        ...     "encoder_config": {"model_type": "bert", "hidden_size": 32}})
        >>> config.class_token_index, config.scorer_type
        (100, 'simple')
    """

    encoder_config: dict[str, Any]
    hidden_size: int
    vocab_size: int
    class_token_index: int
    text_token_index: int
    example_token_index: int
    pooling_strategy: str = "first"
    class_token_pooling: str = "first"
    scorer_type: str = "simple"
    scorer_num_heads: int = 16
    scorer_mlp_hidden_size: int = 1024
    projector_hidden_act: str = "gelu"
    prompt_first: bool = False
    embed_class_token: bool = True
    extract_text_features: bool = False
    normalize_features: bool = False
    logit_scale_init_value: float = 2.6592
    use_segment_embeddings: bool = False
    use_lstm: bool = False
    layer_wise: bool = False
    encoder_layer_id: int = -1
    dropout: float = 0.1
    recommended_threshold: float | None = None  # this project's own: the score that best separates answers from others
    labels_per_prompt: int | None = None  # this project's own: more labels than that are divided among prompts
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> GLiClassConfig:
        """Read the content of a config.json.

        Args:
            raw: The parsed JSON object.

        Raises:
            ValueError: The config is not GLiClass's, asks for an architecture, option or size that is not
                supported, or contradicts itself; the message names key and value.
        """
        _check_finite(raw)
        if raw.get("model_type") != "GLiClass":
            raise ValueError(
                f"config.json has model_type {raw.get('model_type')!r}, expected 'GLiClass': "
                "this is not a GLiClass checkpoint. Fine-tune a bare encoder into one first."
            )
        _choose("architecture_type", raw.get("architecture_type", "uni-encoder"), ("uni-encoder",))
        encoder = raw.get("encoder_config")
        if not isinstance(encoder, Mapping):
            raise ValueError("config.json has no encoder_config object: the encoder's shape is unknown.")
        encoder = {k: v for k, v in encoder.items() if not k.startswith("_") and k != "auto_map"}
        encoder.setdefault("model_type", "deberta-v2")
        _choose("encoder_config.model_type", encoder["model_type"], ENCODERS)
        for key in ("is_decoder", "add_cross_attention"):
            if encoder.get(key):
                raise ValueError(
                    f"config.json sets encoder_config.{key}, which is not supported: a token must see all others."
                )
        vocab = raw.get("vocab_size") or encoder.get("vocab_size")
        if not _is_int(vocab):
            raise ValueError(f"config.json has vocab_size {vocab!r}, expected the number of token embeddings.")
        encoder["vocab_size"] = vocab  # the control tokens included; the official library cannot load it otherwise
        # The official library places an index of -1, or a missing one, after the last token of the vocabulary.
        index: dict[str, Any] = {
            f"{name}_token_index": vocab + n if raw.get(f"{name}_token_index", -1) == -1 else raw[f"{name}_token_index"]
            for n, name in enumerate(("class", "text", "example"))
        }
        names = {f.name for f in dataclasses.fields(cls)} - {"encoder_config", "hidden_size", "vocab_size", "extra"}
        known: dict[str, Any] = {k: v for k, v in raw.items() if k in names - index.keys()}
        extra = {k: v for k, v in raw.items() if k not in names and k not in ("encoder_config", "auto_map")}
        config = cls(
            encoder_config=encoder,
            hidden_size=raw.get("hidden_size") or _encoder_hidden_size(encoder),
            vocab_size=vocab,
            **index,
            **known,
            extra=extra,
        )
        config._check_types()
        config._check()
        return config

    def _check_types(self) -> None:
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            check = _TYPE_CHECKS.get(str(spec.type))
            if check and not check(value):
                raise ValueError(f"config.json has {spec.name} {value!r}, expected a value of type {spec.type}.")

    def _check(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and low <= value <= high):
                raise ValueError(f"config.json has {name} {value!r}, expected a number from {low} to {high}.")
        select_settings(self.encoder_config)
        _choose("pooling_strategy", self.pooling_strategy, POOLINGS)
        _choose("class_token_pooling", self.class_token_pooling, CLASS_POOLINGS)
        _choose("scorer_type", self.scorer_type, SCORERS)
        for option, why in _REFUSED.items():
            if self.extra.get(option):
                raise ValueError(f"config.json sets {option}, which is not supported: {why}.")
        if (self.pooling_strategy == "pass") != (self.scorer_type == "cross-attn"):
            raise ValueError(
                f"pooling_strategy {self.pooling_strategy!r} does not fit scorer_type {self.scorer_type!r}: "
                "'pass' (one vector per token) and 'cross-attn' need each other."
            )
        if self.scorer_type == "cross-attn" and self.encoder_hidden_size % self.scorer_num_heads:
            raise ValueError(
                f"scorer_num_heads {self.scorer_num_heads} does not divide the hidden size {self.encoder_hidden_size}."
            )
        if self.scorer_type == "hopfield" and self.extra.get("max_labels_alloc", "dynamic") != "dynamic":
            raise ValueError("scorer_type 'hopfield' is supported with max_labels_alloc 'dynamic' only.")
        if self.encoder_layer_id != -1 and not self.layer_wise:
            raise ValueError(
                f"encoder_layer_id {self.encoder_layer_id} needs layer_wise true: "
                "without it the official library returns the last layer only."
            )
        if self.hidden_size != self.encoder_hidden_size and (self.use_lstm or self.scorer_type != "simple"):
            raise ValueError(
                f"hidden_size {self.hidden_size} differs from the encoder's {self.encoder_hidden_size}: "
                "only scorer_type 'simple' without use_lstm can run so."
            )

    @property
    def encoder_hidden_size(self) -> int:
        """Width of the encoder's token vectors."""
        return _encoder_hidden_size(self.encoder_config)

    @property
    def encoder_settings(self) -> dict[str, Any]:
        """The settings that transformers builds the encoder from, ``model_type`` excepted."""
        return select_settings(self.encoder_config)

    @property
    def max_positions(self) -> int:
        """Tokens of the longest sequence that the encoder's position settings allow."""
        default = 8192 if self.encoder_config["model_type"] == "modernbert" else 512
        positions = int(self.encoder_config.get("max_position_embeddings", default))
        if self.encoder_config["model_type"] in OFFSET_POSITIONS:
            padding = int(self.encoder_config.get("pad_token_id", 1) or 0)
            # transformers' MPNet takes 1 whatever its config says.
            positions -= (1 if self.encoder_config["model_type"] == "mpnet" else padding) + 1
        return positions

    @property
    def has_absolute_positions(self) -> bool:
        """Whether a sequence longer than ``max_positions`` cannot be encoded at all."""
        if self.encoder_config["model_type"] == "deberta-v2":
            return bool(self.encoder_config.get("position_biased_input", True))
        return bool(self.encoder_config["model_type"] != "modernbert")

    def to_dict(self) -> dict[str, Any]:
        """The content of a config.json that this project and the official library read alike."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"}
        for name in ("recommended_threshold", "labels_per_prompt"):  # the official library does not know them
            if fields[name] is None:
                del fields[name]
        return {
            **self.extra,
            **fields,
            "encoder_config": dict(self.encoder_config),
            "model_type": "GLiClass",
            "architecture_type": "uni-encoder",
            "architectures": ["GLiClassModel"],
        }


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return _is_int(value) or isinstance(value, float)


_TYPE_CHECKS: dict[str, Callable[[object], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": _is_int,
    "int | None": lambda value: value is None or _is_int(value),
    "float": _is_number,
    "str": lambda value: isinstance(value, str),
}


def _check_finite(value: object, name: str = "") -> None:
    """Refuse NaN and infinity, which Python reads from JSON, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"config.json has {name} {value}, expected a finite number.")
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _check_finite(item, f"{name}.{key}" if name else str(key))


def _encoder_hidden_size(encoder_config: Mapping[str, Any]) -> int:
    return int(encoder_config.get("hidden_size", encoder_config.get("dim", 768)))  # DistilBERT says dim


def _choose(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"config.json has {name} {value!r}, which is not supported; supported: {', '.join(allowed)}.")
