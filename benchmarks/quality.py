"""How well a model reranks: nDCG@10 of a first stage's order and of the model's, side by side.

    python -m benchmarks.quality COLLECTION... [--model FOLDER] [--queries 100] [--dtype float32]

A collection is a folder in BEIR layout with qrels/<split>.tsv and a run in runs/<split>.*.trec.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import ir_measures
from ir_measures import nDCG
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.results_file import write_result
from gliclass_rerank import GLiClassReranker

Run = dict[str, dict[str, float]]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_qrels(path: Path) -> list[tuple[str, str, int]]:
    """Query, passage and relevance of each line of a qrels file."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [(query, passage, int(float(relevance))) for query, passage, relevance in rows]


def read_run(folder: Path, split: str) -> tuple[str, Run]:
    """The name of a collection's run, and its candidates with their scores by query."""
    [path] = folder.glob(f"runs/{split}.*.trec")
    run: Run = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines():
        query, _, passage, rank, _, _ = line.split()
        run[query][passage] = -float(rank)  # by rank, so that ties keep the run's order
    return path.name, dict(run)


def evaluate(folder: Path, reranker: GLiClassReranker, split: str, most: int, seed: int) -> dict[str, Any]:
    """Rerank some of a collection's queries and measure both orders."""
    corpus = {
        row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in read_jsonl(folder / "corpus.jsonl")
    }
    queries = {row["_id"]: row["text"] for row in read_jsonl(folder / "queries.jsonl")}
    name, run = read_run(folder, split)
    chosen = sorted(run)
    if most and most < len(chosen):
        chosen = random.Random(seed).sample(chosen, most)
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    for query, passage, relevance in read_qrels(folder / "qrels" / f"{split}.tsv"):
        qrels[query][passage] = relevance
    reranked: Run = {}
    console = Console(stderr=True)
    for query in track(chosen, folder.name, console=console, disable=not console.is_terminal):
        ids = list(run[query])
        scores = reranker.score(queries[query], [corpus[i] for i in ids])
        reranked[query] = dict(zip(ids, scores, strict=True))
    asked = {query: qrels[query] for query in chosen}
    measured = {
        order: round(ir_measures.calc_aggregate([nDCG @ 10], asked, scored)[nDCG @ 10], 4)
        for order, scored in (("first stage", {q: run[q] for q in chosen}), ("reranked", reranked))
    }
    return {"collection": folder.name, "run": name, "queries": len(chosen), **measured}


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
    rows = [evaluate(c, reranker, options.split, options.queries, options.seed) for c in options.collections]
    mean = {k: round(sum(row[k] for row in rows) / len(rows), 4) for k in ("first stage", "reranked")}
    table = Table("collection", "queries", "first stage", "reranked", title="nDCG@10")
    for row in [*rows, {"collection": "mean", "queries": sum(row["queries"] for row in rows), **mean}]:
        table.add_row(row["collection"], str(row["queries"]), f"{row['first stage']:.3f}", f"{row['reranked']:.3f}")
    Console().print(table)
    write_result(options.name, {"measure": "nDCG@10", "dtype": options.dtype, "collections": rows, "mean": mean})


if __name__ == "__main__":
    main()
