"""How well a model reranks: nDCG@10 of a first stage's order and of the model's, side by side.

    python -m benchmarks.quality COLLECTION... [--model FOLDER] [--queries 100] [--dtype float32]

A collection is a folder in BEIR layout with qrels/<split>.tsv and a run in runs/<split>.*.trec.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import ir_measures
from ir_measures import nDCG
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.collection import Collection, Run, read_collection
from benchmarks.results_file import write_result
from gliclass_rerank import GLiClassReranker


def evaluate(collection: Collection, reranker: GLiClassReranker) -> dict[str, Any]:
    """Rerank a collection's queries and measure both orders."""
    # By rank, so that ties keep the run's order.
    first_stage: Run = {q: {p: -i for i, p in enumerate(ids)} for q, ids in collection.candidates.items()}
    reranked: Run = {}
    console = Console(stderr=True)
    for query, text in track(
        collection.queries.items(), collection.name, console=console, disable=not console.is_terminal
    ):
        ids = collection.candidates[query]
        scores = reranker.score(text, [collection.passages[i] for i in ids])
        reranked[query] = dict(zip(ids, scores, strict=True))
    measured = {
        order: round(ir_measures.calc_aggregate([nDCG @ 10], collection.qrels, run)[nDCG @ 10], 4)
        for order, run in (("first stage", first_stage), ("reranked", reranked))
    }
    return {
        "collection": collection.name,
        "run": collection.run_name,
        "queries": len(collection.queries),
        **measured,
    }


def main() -> None:
    """Measure, print a table and write results/quality*.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+")
    parser.add_argument("--model", help="hub name or folder; the embedded model without it")
    parser.add_argument("--queries", type=int, default=0, help="how many, drawn at random; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="test")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--name", default="quality", help="of the result file")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained(options.model, dtype=options.dtype)
    rows = [
        evaluate(read_collection(folder, options.split, options.queries, options.seed), reranker)
        for folder in options.collections
    ]
    mean = {k: round(sum(row[k] for row in rows) / len(rows), 4) for k in ("first stage", "reranked")}
    table = Table("collection", "queries", "first stage", "reranked", title="nDCG@10")
    for row in [*rows, {"collection": "mean", "queries": sum(row["queries"] for row in rows), **mean}]:
        table.add_row(row["collection"], str(row["queries"]), f"{row['first stage']:.3f}", f"{row['reranked']:.3f}")
    Console().print(table)
    write_result(options.name, {"measure": "nDCG@10", "dtype": options.dtype, "collections": rows, "mean": mean})


if __name__ == "__main__":
    main()
