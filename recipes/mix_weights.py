"""Average a trained model's weights with those it started from."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from gliclass_rerank.engine.checkpoint import is_gliclass, load_checkpoint, save_checkpoint
from gliclass_rerank.training.start import start_from_encoder
from gliclass_rerank.training.train import RECORD


def mix_with_start(trained: Path, start: Path, share: float, target: Path) -> Path:
    """Write ``share`` of a trained model and the rest of its start, weight by weight.

    After Wortsman et al., Robust fine-tuning of zero-shot models (2022): what training forgot of
    other subjects comes back, for little of what it taught.

    Args:
        trained: Folder of the trained checkpoint.
        start: Folder of the checkpoint or the bare encoder that it started from.
        share: Of the trained weights, in [0, 1].
        target: Folder for the mixture, with the training's record beside it.

    Returns:
        The target.
    """
    checkpoint = load_checkpoint(trained)
    network = load_checkpoint(start).network if is_gliclass(start) else start_from_encoder(start, start.name)[0]
    before = dict(network.named_parameters())
    with torch.no_grad():
        for name, weight in checkpoint.network.named_parameters():
            weight.lerp_(before[name], 1 - share)
    save_checkpoint(checkpoint.network, checkpoint.tokenizer, target)
    shutil.copyfile(trained / RECORD, target / RECORD)
    return target
