"""Measure lower precisions on a CPU: nDCG@10 on collections in BEIR layout, and time.

    python -m benchmarks.precision --data COLLECTION... [--model FOLDER] [--queries 100] [--repeats 7]
        [--others] [--result precision]

Compares the package's fp32 and bf16. With --others it adds alternatives the package does not offer, to see
whether it should: int8 through PyTorch's dynamic quantisation of the encoder's matrix products, and the encoder in
ONNX Runtime (needs onnx, onnxscript and onnxruntime), in fp32 and dynamically quantised. Times are for 100 fresh
passages of 180 tokens on average. Prints a table and writes results/precision.json, or the name that --result gives.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.results_file import make_table, print_table, write_result
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
        warnings.simplefilter("ignore")  # deprecated: it will move into another package
        checkpoint.network.encoder_model = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            checkpoint.network.encoder_model, {torch.nn.Linear}, torch.qint8
        )
    return as_reranker(model, checkpoint)


class OnnxEncoder(torch.nn.Module):
    """An encoder in ONNX Runtime that stands in for one of transformers'; returns the last layer only."""

    def __init__(self, encoder: torch.nn.Module, *, int8: bool) -> None:
        super().__init__()
        runtime = import_module("onnxruntime")
        ids = torch.full((2, 16), 7)
        sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = str(Path(folder, "encoder.onnx"))
            inputs = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
            }  # must differ: the same tensor twice would become one input
            torch.onnx.export(
                encoder.eval(), (), path, kwargs=inputs, dynamic_shapes=dict.fromkeys(inputs, sizes), verbose=False
            )
            if int8:
                quantization = import_module("onnxruntime.quantization")
                quantization.quantize_dynamic(path, path, weight_type=quantization.QuantType.QInt8, per_channel=True)
            options = runtime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            # Spinning threads would keep a core busy while PyTorch computes the head.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> SimpleNamespace:
        """Token vectors, as ``last_hidden_state``."""
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return SimpleNamespace(last_hidden_state=torch.from_numpy(self._session.run(None, inputs)[0]))


def in_onnx(model: str | None, *, int8: bool) -> GLiClassReranker:
    """A reranker whose encoder runs in ONNX Runtime, over padded sequences of similar length."""
    checkpoint = load_checkpoint(model)
    # The export cannot trace other kinds of attention.
    checkpoint.network.encoder_model.set_attn_implementation("eager")
    encoder: Any = OnnxEncoder(checkpoint.network.encoder_model, int8=int8)
    encoder.config = SimpleNamespace(model_type="onnx", _attn_implementation="eager")  # not packed
    checkpoint.network.encoder_model = encoder
    return as_reranker(model, checkpoint)


def as_reranker(model: str | None, checkpoint: Checkpoint) -> GLiClassReranker:
    """A reranker over a network with another encoder."""
    scorer = GLiClassScorer(checkpoint.network, device="cpu", dtype="float32")
    return GLiClassReranker(LoadedModel(checkpoint, scorer), RerankerOptions(model, "cpu", "float32"))


def main() -> None:
    """Measure, print tables and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--model", help="hub name or folder; default: the bundled model")
    parser.add_argument("--queries", type=int, help="queries of each collection, drawn at random; default: all")
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
        evaluations = {name: evaluate(collection, score) for name, score in scores.items()}
        ndcg = {name: round(each.reranked["nDCG@10"].mean, 4) for name, each in evaluations.items()}
        rows.append({"collection": collection.name, "queries": len(collection.queries), **ndcg})
    cells = [[row["collection"], *(f"{row[name]:.4f}" for name in rerankers)] for row in rows]
    cells.append(["**mean**", *(f"{mean(row[name] for row in rows):.4f}" for name in rerankers)])
    cells.append([f"seconds, {PASSAGES} passages", *(f"{time['median']:.2f}" for time in times)])
    table = make_table(["nDCG@10", *rerankers], cells)
    print_table(table)
    result = {"peers": peers, "measure": "nDCG@10", "collections": rows, "seconds": times, "table": table}
    write_result(options.result, result)


if __name__ == "__main__":
    main()
