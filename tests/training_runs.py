"""Runs of ``gliclass-rerank train`` on data that a tiny model can learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from gliclass_rerank.cli.app import app
from tests.random_checkpoints import make_tokenizer


def write_bare_encoder(
    folder: Path, *, size: int = 32, layers: int = 1, change: Callable[[BertModel], None] | None = None
) -> Path:
    """A bare BERT with random weights, and without the pooler that nothing reads; it may be changed before it is saved."""
    tokenizer = make_tokenizer.__wrapped__("wordpiece")
    torch.manual_seed(0)
    shape = {"hidden_size": size, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": size}
    model = BertModel(BertConfig(vocab_size=len(tokenizer) - 3, **shape), add_pooling_layer=False)
    if change:
        change(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run(*arguments: object, fails: bool = False) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == (2 if fails else 0), result.output
    return result.output


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def read_record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "training.json").read_text())


class PowerCutError(Exception):
    """Stops a run as a power cut would."""


def cut_after(steps: int) -> Callable[..., Any]:
    """The trainer's own loss, until a power cut."""
    from gliclass_rerank.training.trainer import GroupTrainer

    compute, done = GroupTrainer.compute_loss, []

    def until_then(self, *arguments, **options):
        done.append(1)
        if len(done) > steps:
            raise PowerCutError
        return compute(self, *arguments, **options)

    return until_then
