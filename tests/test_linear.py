"""Prepacked linear layers compute what linear layers compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gliclass_rerank.engine.checkpoint import load_checkpoint, save_checkpoint
from gliclass_rerank.engine.scorer import GLiClassScorer
from gliclass_rerank.modeling.linear import PrepackedLinear, can_prepack, prepack_linears

NUMBERS = torch.randn(5000, generator=torch.Generator().manual_seed(0))
INPUTS = {
    "no row": NUMBERS[:0].view(0, 24),
    "one row": NUMBERS[:24].view(1, 24),
    "rows": NUMBERS[: 37 * 24].view(37, 24),
    "sequences": NUMBERS[: 15 * 24].view(3, 5, 24),
    "turned": NUMBERS[: 7 * 24].view(24, 7).T,
    "every second": NUMBERS[: 10 * 24].view(10, 24)[::2],
    "repeated": NUMBERS[:24].expand(6, 24),
    "a slice": NUMBERS[: 6 * 48].view(6, 48)[:, 24:],
}
pytestmark = pytest.mark.skipif(not can_prepack(torch.float32), reason="no oneDNN products here")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
@torch.inference_mode()
def test_a_prepacked_layer_gives_what_the_layer_gave(x: Tensor, dtype: torch.dtype, bias: bool) -> None:
    if not can_prepack(dtype):
        pytest.skip("no bf16 products here")
    linear = nn.Linear(24, 40, bias=bias).to(dtype)
    prepacked, plain = PrepackedLinear(linear)(x.to(dtype)), linear.float()(x.to(dtype).float())
    assert prepacked.dtype == dtype
    torch.testing.assert_close(prepacked.float(), plain, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=0)


def test_linear_layers_are_replaced_wherever_they_are_and_others_stay() -> None:
    class Watched(nn.Linear):
        pass

    inner = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    module = nn.Sequential(nn.Linear(4, 4), inner, Watched(4, 4), nn.Linear(4, 4, dtype=torch.float64))
    prepack_linears(module)
    assert [type(part).__name__ for part in module] == ["PrepackedLinear", "Sequential", "Watched", "Linear"]
    assert [type(part).__name__ for part in inner] == ["PrepackedLinear", "LayerNorm"]


def test_a_scorer_on_a_cpu_has_prepacked_its_network_which_cannot_be_saved_then(tmp_path: Path) -> None:
    checkpoint = load_checkpoint()
    GLiClassScorer(checkpoint.network, device="cpu", dtype="float32")
    assert not any(type(part) is nn.Linear for part in checkpoint.network.modules())
    with pytest.raises(RuntimeError, match="Load the checkpoint anew"):
        save_checkpoint(checkpoint.network, checkpoint.tokenizer, tmp_path / "saved")
