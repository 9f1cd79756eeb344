"""The benchmark's shapes are those of the published checkpoints."""

from __future__ import annotations

import pytest
import torch

from benchmarks.shapes import SHAPES, shape_config
from gliclass_rerank.modeling.gliclass import GLiClassNetwork

PARAMETERS = {
    "edge": 32_705_154,
    "modern-base": 151_378_177,
    "modern-large": 398_982_145,
    "base": 186_545_922,
    "large": 438_668_802,
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_as_many_parameters_as_the_published_checkpoint(name: str) -> None:
    with torch.device("meta"):
        network = GLiClassNetwork(shape_config(name, {"class": 1, "text": 2, "example": 3}))
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
