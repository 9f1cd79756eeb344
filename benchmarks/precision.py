"""What a lower precision costs and gains on a CPU: nDCG@10 on collections in BEIR layout, and time.

    python -m benchmarks.precision --data COLLECTION... [--model FOLDER] [--queries 100] [--repeats 7]

fp32, bf16, and int8 by PyTorch's dynamic quantisation of the encoder's matrix products, which is no part of
the package: it is here to see whether it should be. The time is that of 100 fresh passages of 180 tokens on
average. Prints tables and writes results/precision.json.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.results_file import write_result
from benchmarks.speed import Score, make_draw, race
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.checkpoint import load_checkpoint
from gliclass_rerank.evaluation import evaluate, read_collection
from gliclass_rerank.loading import LoadedModel
from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.progress import progress
from gliclass_rerank.scorer import GLiClassScorer

PASSAGES, TOKENS = 100, 180


def quantised(model: str | None) -> GLiClassReranker:
    """A reranker whose encoder multiplies in int8."""
    checkpoint = load_checkpoint(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move into another package
        checkpoint.network.encoder_model = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            checkpoint.network.encoder_model, {torch.nn.Linear}, torch.qint8
        )
    scorer = GLiClassScorer(checkpoint.network, device="cpu", dtype="float32")
    return GLiClassReranker(LoadedModel(checkpoint, scorer), RerankerOptions(model, "cpu", "float32"))


def main() -> None:
    """Measure, print tables and write results/precision.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--model", help="hub name or folder; the embedded model without it")
    parser.add_argument("--queries", type=int, help="how many of each, drawn at random; all without it")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    rerankers = {
        "float32": GLiClassReranker.from_pretrained(options.model, device="cpu", dtype="float32"),
        "bfloat16": GLiClassReranker.from_pretrained(options.model, device="cpu", dtype="bfloat16"),
        "int8": quantised(options.model),
    }
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
    write_result("precision", {"measure": "nDCG@10", "collections": rows, "seconds": times})


if __name__ == "__main__":
    main()
