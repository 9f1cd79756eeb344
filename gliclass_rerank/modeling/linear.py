"""Linear layers whose weights are rearranged once, for oneDNN's matrix products on CPUs.

Without this, PyTorch uses MKL for fp32 products, which takes twice as long on AMD processors with AVX-512, and
rearranges bf16 weights in each call, which is up to a fifth of the time of small products.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn


class PrepackedLinear(nn.Module):
    """A linear layer for inference; only oneDNN can read its weights.

    Args:
        linear: The layer that it replaces.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # No public function rearranges weights; torch.compile calls these two.
        self._weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return output

    def _save_to_state_dict(self, *_: object) -> None:
        raise RuntimeError("these weights were rearranged for scoring and cannot be saved. Load the checkpoint anew.")


def prepack_linears(module: nn.Module) -> None:
    """Replace each linear layer inside a module on a CPU by a ``PrepackedLinear``, if the machine can run it.

    Args:
        module: Changed in place: it can no longer be saved, copied or trained.
    """
    for name, child in module.named_children():
        if type(child) is nn.Linear and can_prepack(child.weight.dtype):  # subclasses may let others read their weights
            setattr(module, name, PrepackedLinear(child))
        else:
            prepack_linears(child)


def can_prepack(dtype: torch.dtype) -> bool:
    """Whether this machine and this PyTorch have oneDNN's products in a dtype; measured on x86 only."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if platform.machine() not in ("x86_64", "AMD64") or not has_onednn:
        return False
    needed = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(torch.ops.mkldnn, name) for name in needed):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
