"""What several queries in one prompt cost: nDCG@10 and movement of the score, against each query alone.

    python -m benchmarks.together COLLECTION... [--model FOLDER] [--queries 100] [--together 2 4 8] [--result together]

A collection is a folder in BEIR layout with a run in runs/test.*.trec. Each query is scored over
its own candidates, alone and at a random place among companions: other queries of the collection.
Queries that would leave a passage less than half of the prompt are spread over several prompts, as
``score_matrix`` does. The dtype is auto: bf16 moves a score far less than companions do. Prints a
table and writes results/together.json, or the name that --result gives.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.results_file import ResultTable, make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import Collection, read_collection
from gliclass_rerank.evaluation.measures import measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 0


@dataclass
class Outcome:
    """Rankings by query, and how far each pair's score moved."""

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
        rng = random.Random(f"{SEED} {query}")  # a query gets the same companions however many are measured
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


def tabulate(rows: Sequence[dict[str, Any]]) -> ResultTable:
    """nDCG@10: a row for each collection, a column for each number of queries."""
    sizes = list(dict.fromkeys(row["together"] for row in rows))
    by_collection: dict[str, list[str]] = {}
    for row in rows:
        by_collection.setdefault(row["collection"], []).append(f"{row['nDCG@10']:.3f}")
    means = [f"{mean(row['nDCG@10'] for row in rows if row['together'] == size):.3f}" for size in sizes]
    header = ["collection", *("alone" if size == 1 else f"{size} together" for size in sizes)]
    return make_table(header, [*([name, *cells] for name, cells in by_collection.items()), ["**mean**", *means]])


def main() -> None:
    """Measure, print a table and write results/together.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+")
    parser.add_argument("--model", help="hub name or folder; default: the bundled model")
    parser.add_argument("--queries", type=int, help="queries of each collection, drawn at random; default: all")
    parser.add_argument("--together", type=int, nargs="+", default=[2, 4, 8], help="queries in one prompt")
    parser.add_argument("--result", default="together", help="name of the file in results/")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained(options.model)
    rows = []
    for folder in options.collections:
        collection = read_collection(folder, queries=options.queries, seed=SEED)
        others = sorted(set(read_collection(folder).queries.values()))
        rows += evaluate(collection, score_collection(collection, others, reranker, options.together))
    table = tabulate(rows)
    print_table(table, "nDCG@10")
    write_result(options.result, {"max_length": reranker.max_length, "collections": rows, "table": table})


if __name__ == "__main__":
    main()
