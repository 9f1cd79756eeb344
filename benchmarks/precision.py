"""Does bf16 rank as fp32 does? nDCG@10 of both, on collections in BEIR layout.

    python -m benchmarks.precision --data COLLECTION... [--model FOLDER] [--queries 100]

Prints a table and writes results/precision.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.results_file import write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.evaluation import evaluate, read_collection
from gliclass_rerank.progress import progress
from gliclass_rerank.validation import Dtype

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")


def main() -> None:
    """Measure, print a table and write results/precision.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--model", help="hub name or folder; the embedded model without it")
    parser.add_argument("--queries", type=int, help="how many of each, drawn at random; all without it")
    options = parser.parse_args()
    rerankers = {dtype: GLiClassReranker.from_pretrained(options.model, dtype=dtype) for dtype in DTYPES}
    rows: list[dict[str, Any]] = []
    for folder in progress(options.data, "collections"):
        collection = read_collection(folder, queries=options.queries)
        found = {dtype: evaluate(collection, reranker.score) for dtype, reranker in rerankers.items()}
        ndcg: dict[str, float] = {
            dtype: round(evaluation.reranked["nDCG@10"].mean, 4) for dtype, evaluation in found.items()
        }
        rows.append({"collection": collection.name, "queries": len(collection.queries), **ndcg})
    table = Table("collection", "queries", *DTYPES, "difference", title="nDCG@10")
    for row in rows:
        values = [row[dtype] for dtype in DTYPES]
        table.add_row(row["collection"], str(row["queries"]), *map(str, values), f"{values[1] - values[0]:+.4f}")
    Console().print(table)
    write_result("precision", {"measure": "nDCG@10", "collections": rows})


if __name__ == "__main__":
    main()
