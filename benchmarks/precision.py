"""What a lower precision costs and gains on a CPU: nDCG@10 on collections in BEIR layout, and time.

    python -m benchmarks.precision --data COLLECTION... [--model FOLDER] [--queries 100] [--repeats 7]
        [--others] [--result precision]

The package's fp32 and bf16; with --others also what is no part of it, to see whether it should be: int8 by
PyTorch's dynamic quantisation of the encoder's matrix products, and the encoder in ONNX Runtime (which wants
onnx, onnxscript and onnxruntime), in fp32 and dynamically quantised. The time is that of 100 fresh passages of
180 tokens on average. Prints tables and writes results/precision.json, or what --result names.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.results_file import write_result
from benchmarks.speed import Score, make_draw, race
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.checkpoint import Checkpoint, load_checkpoint
from gliclass_rerank.engine.loading import LoadedModel
from gliclass_rerank.engine.scorer import GLiClassScorer
from gliclass_rerank.evaluation import evaluate, read_collection
from gliclass_rerank.options import RerankerOptions

PASSAGES, TOKENS = 100, 180
ONNX = ("onnx", "onnxscript", "onnxruntime")


def quantised(model: str | None) -> GLiClassReranker:
    """A reranker whose encoder multiplies in int8."""
    checkpoint = load_checkpoint(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move into another package
        checkpoint.network.encoder_model = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            checkpoint.network.encoder_model, {torch.nn.Linear}, torch.qint8
        )
    return as_reranker(model, checkpoint)


class OnnxEncoder(torch.nn.Module):
    """An encoder in ONNX Runtime, with plain attention, in the place of one of transformers'; last layer only."""

    def __init__(self, encoder: torch.nn.Module, *, int8: bool) -> None:
        super().__init__()
        runtime = import_module("onnxruntime")
        ids = torch.full((2, 16), 7)
        sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = str(Path(folder, "encoder.onnx"))
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}  # one tensor twice would be one input
            torch.onnx.export(
                encoder.eval(), (), path, kwargs=inputs, dynamic_shapes=dict.fromkeys(inputs, sizes), verbose=False
            )
            if int8:
                quantization = import_module("onnxruntime.quantization")
                quantization.quantize_dynamic(path, path, weight_type=quantization.QuantType.QInt8, per_channel=True)
            options = runtime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            # Else its threads keep a core busy while PyTorch computes the head.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> SimpleNamespace:
        """Token vectors, as ``last_hidden_state``."""
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return SimpleNamespace(last_hidden_state=torch.from_numpy(self._session.run(None, inputs)[0]))


def in_onnx(model: str | None, *, int8: bool) -> GLiClassReranker:
    """A reranker whose encoder runs in ONNX Runtime, over padded sequences of similar length."""
    checkpoint = load_checkpoint(model)
    # Exporting wants an attention that it can trace.
    checkpoint.network.encoder_model.set_attn_implementation("eager")
    encoder: Any = OnnxEncoder(checkpoint.network.encoder_model, int8=int8)
    encoder.config = SimpleNamespace(model_type="onnx", _attn_implementation="eager")  # so it is not packed
    checkpoint.network.encoder_model = encoder
    return as_reranker(model, checkpoint)


def as_reranker(model: str | None, checkpoint: Checkpoint) -> GLiClassReranker:
    """A reranker over a network whose encoder was exchanged."""
    scorer = GLiClassScorer(checkpoint.network, device="cpu", dtype="float32")
    return GLiClassReranker(LoadedModel(checkpoint, scorer), RerankerOptions(model, "cpu", "float32"))


def main() -> None:
    """Measure, print tables and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--model", help="hub name or folder; the bundled model without it")
    parser.add_argument("--queries", type=int, help="how many of each, drawn at random; all without it")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--others", action="store_true", help="int8 and ONNX Runtime too")
    parser.add_argument("--result", default="precision", help="name of the file in results/")
    options = parser.parse_args()
    rerankers = {
        "float32": GLiClassReranker.from_pretrained(options.model, device="cpu", dtype="float32"),
        "bfloat16": GLiClassReranker.from_pretrained(options.model, device="cpu", dtype="bfloat16"),
    }
    peers = {}
    if options.others:
        rerankers["int8"] = quantised(options.model)
        rerankers["ONNX Runtime, float32"] = in_onnx(options.model, int8=False)
        rerankers["ONNX Runtime, int8"] = in_onnx(options.model, int8=True)
        peers = {name: version(name) for name in ONNX}
    draw = make_draw(load_checkpoint(options.model).tokenizer, PASSAGES, TOKENS)
    scores: dict[str, Score] = {name: reranker.score for name, reranker in rerankers.items()}
    times = race(scores, draw, options.repeats, {"passages": PASSAGES, "tokens": TOKENS})
    rows: list[dict[str, Any]] = []
    for folder in progress(options.data, "collections"):
        collection = read_collection(folder, queries=options.queries)
        found = {name: evaluate(collection, score).reranked["nDCG@10"].mean for name, score in scores.items()}
        ndcg = {name: round(mean, 4) for name, mean in found.items()}
        rows.append({"collection": collection.name, "queries": len(collection.queries), **ndcg})
    console = Console()
    quality = Table("collection", "queries", *rerankers, title="nDCG@10")
    for row in rows:
        quality.add_row(row["collection"], str(row["queries"]), *(f"{row[name]:.4f}" for name in rerankers))
    console.print(quality)
    seconds = Table("precision", "seconds", title=f"{PASSAGES} passages of {TOKENS} tokens")
    for time in times:
        seconds.add_row(time["contender"], f"{time['median']:.3f}")
    console.print(seconds)
    write_result(options.result, {"peers": peers, "measure": "nDCG@10", "collections": rows, "seconds": times})


if __name__ == "__main__":
    main()
