"""LoRA: train a few small matrices beside the weights, so that the model keeps what it knew.

The presets are the settings with which the published checkpoints were trained, as their model
cards give them (knowledgator/gliclass-modern-base-v3.0 and its siblings).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn

    from gliclass_rerank.modeling.gliclass import GLiClassNetwork

_MODERNBERT = ("Wqkv", "Wo", "Wi", "linear_1", "linear_2")
_DEBERTA = ("query_proj", "key_proj", "value_proj", "dense", "linear_1", "linear_2", "mlp.0", "mlp.2", "mlp.4")
_BERT = ("query", "key", "value", "dense", "linear_1", "linear_2")


@dataclass(frozen=True, slots=True)
class LoraPreset:
    """Settings of LoRA for one architecture.

    Attributes:
        r: Rank of the matrices.
        alpha: Their products are scaled by alpha / r.
        focal_alpha: Weight of positives in the focal loss.
        target_modules: How the names of the modules end beside which they are put.
    """

    r: int
    alpha: int
    focal_alpha: float
    target_modules: tuple[str, ...]


LORA_PRESETS = {
    "modern-base": LoraPreset(512, 1024, 0.7, _MODERNBERT),
    "modern-large": LoraPreset(768, 1536, 0.7, _MODERNBERT),
    "base": LoraPreset(384, 768, 0.7, _DEBERTA),
    "large": LoraPreset(384, 768, 0.7, _DEBERTA),
    "bundled": LoraPreset(64, 128, 0.5, _BERT),  # this project's own, for BERT encoders of this size
}


def add_lora(network: GLiClassNetwork, preset: LoraPreset) -> PeftModel:
    """Freeze a network and put trainable matrices beside the preset's modules.

    Args:
        network: The network; its modules are wrapped in place.
        preset: Which modules, and how.

    Returns:
        The network with its adapters; calling it is calling the network.

    Raises:
        ImportError: peft is not installed.
        ValueError: The network has no module of one of the names.

    Example:
        >>> from gliclass_rerank.engine.checkpoint import load_checkpoint
        >>> adapted = add_lora(load_checkpoint().network, LORA_PRESETS["bundled"])
        >>> trained, all_of_them = adapted.get_nb_trainable_parameters()
        >>> trained < all_of_them / 4
        True
    """
    from peft import LoraConfig, get_peft_model
    from torch import nn

    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    missing = _missing(preset, names)
    if missing:
        fitting = [key for key, other in LORA_PRESETS.items() if not _missing(other, names)]
        raise ValueError(
            f"the checkpoint has no module {', '.join(missing)}, which the LoRA preset needs; "
            f"presets that fit it: {', '.join(fitting) or 'none'}."
        )
    config = LoraConfig(r=preset.r, lora_alpha=preset.alpha, target_modules=list(preset.target_modules))
    return cast("PeftModel", get_peft_model(cast("nn.Module", network), config))


def merge_lora(adapted: PeftModel) -> GLiClassNetwork:
    """Add the trained matrices to the weights beside which they stood.

    Args:
        adapted: From ``add_lora``; not to be used afterwards.

    Returns:
        A plain network, whose checkpoint needs no peft.
    """
    return cast("GLiClassNetwork", adapted.merge_and_unload())


def _missing(preset: LoraPreset, names: list[str]) -> list[str]:
    """The preset's target modules that no name ends with."""
    return [t for t in preset.target_modules if not any(f".{name}".endswith(f".{t}") for name in names)]
