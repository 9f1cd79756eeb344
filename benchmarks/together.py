"""What several queries in one prompt cost: nDCG@10 and movement of the score, against each query alone.

    python -m benchmarks.together COLLECTION... [--model FOLDER] [--queries 100] [--together 2 4 8]

A collection is a folder in BEIR layout with a run in runs/test.*.trec. Each query is scored over
its own candidates, alone and among companions: other queries of the collection, the query at a
random place among them. Where they would leave the passage less than half of the prompt, they
are shared out over several, as ``score_matrix`` does.
The dtype is auto; what bf16 rounds is little beside what moves. Prints a table and writes
results/together.json.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.results_file import write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import Collection, read_collection
from gliclass_rerank.evaluation.measures import measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 0


@dataclass
class Outcome:
    """What scoring so many queries together gave: a ranking, and each pair's movement."""

    ranking: dict[str, list[str]] = field(default_factory=dict)
    movements: list[float] = field(default_factory=list)


def score_among(
    query: str, companions: Sequence[str], passages: Sequence[str], reranker: GLiClassReranker, rng: random.Random
) -> NDArray[np.float32]:
    """The query's scores among companions."""
    queries = list(companions)
    place = rng.randint(0, len(queries))
    queries.insert(place, query)
    scores: NDArray[np.float32] = reranker.score_matrix(queries, passages, together=True)[place]
    return scores


def score_collection(
    collection: Collection, others: Sequence[str], reranker: GLiClassReranker, sizes: Sequence[int]
) -> dict[int, Outcome]:
    """Score every query alone and in prompts of each size, with companions drawn from ``others``."""
    outcomes = {size: Outcome() for size in (1, *sizes)}
    for query, text in progress(collection.queries.items(), collection.name):
        rng = random.Random(f"{SEED} {query}")  # its companions are the same however many queries are measured
        strangers = [other for other in others if other != text]
        companions = rng.sample(strangers, min(max(outcomes) - 1, len(strangers)))
        ids = collection.candidates[query]
        if not ids:
            continue
        passages = [collection.passages[i] for i in ids]
        alone = score_among(text, [], passages, reranker, rng)
        for size, outcome in outcomes.items():
            scores = alone if size == 1 else score_among(text, companions[: size - 1], passages, reranker, rng)
            order = np.argsort(-scores, kind="stable").tolist()  # equal scores keep the first stage's order
            outcome.ranking[query] = [ids[i] for i in order]
            outcome.movements += np.abs(scores - alone).tolist()
    return outcomes


def evaluate(collection: Collection, outcomes: dict[int, Outcome]) -> list[dict[str, Any]]:
    """One row for each number of queries in a prompt."""
    return [
        {
            "collection": collection.name,
            "queries": len(collection.queries),
            "together": size,
            "nDCG@10": round(float(np.mean(measure(collection.qrels, outcome.ranking)["nDCG@10"])), 4),
            "mean movement": round(float(np.mean(outcome.movements)), 4),
        }
        for size, outcome in outcomes.items()
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table: a line for each collection, a column for each number of queries."""
    by_collection: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_collection.setdefault(row["collection"], {})[row["together"]] = row
    sizes = list(dict.fromkeys(row["together"] for row in rows))
    columns = ["alone" if size == 1 else f"{size} together" for size in sizes]
    table = Table("collection", "queries", *columns, title="nDCG@10 (mean movement of the score)")
    for name, by_size in by_collection.items():
        cells = [f"{by_size[size]['nDCG@10']:.3f} ({by_size[size]['mean movement']:.3f})" for size in sizes]
        table.add_row(name, str(by_size[1]["queries"]), *cells)
    Console().print(table)


def main() -> None:
    """Measure, print a table and write results/together.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+")
    parser.add_argument("--model", help="hub name or folder; the bundled model without it")
    parser.add_argument("--queries", type=int, help="how many of each, drawn at random; all without it")
    parser.add_argument("--together", type=int, nargs="+", default=[2, 4, 8], help="queries in one prompt")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained(options.model)
    rows = []
    for folder in options.collections:
        collection = read_collection(folder, queries=options.queries, seed=SEED)
        others = sorted(set(read_collection(folder).queries.values()))
        rows += evaluate(collection, score_collection(collection, others, reranker, options.together))
    show(rows)
    write_result("together", {"max_length": reranker.max_length, "collections": rows})


if __name__ == "__main__":
    main()
