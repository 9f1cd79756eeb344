"""Measures how much a first stage's order should count: nDCG@10 for several values of ``retrieval_weight``.

    python -m benchmarks.retrieval_weight COLLECTION... [--queries 100] [--encoder FOLDER]

The candidates are a collection's own, in BM25's order; with `--encoder` also the same ones in the order of a sentence
encoder, which stands for dense retrieval. The script prints a table per first stage and writes
results/retrieval_weight.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.results_file import ResultTable, make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import Collection, read_collection
from gliclass_rerank.evaluation.measures import measure
from gliclass_rerank.fusion import fuse

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)

Order = Callable[[str, list[str]], list[int]]


def rank_with_weights(collection: Collection, reranker: GLiClassReranker, order: Order | None) -> list[float]:
    """nDCG@10 of the first stage, then of each weight; ``order`` sorts the candidates before they are ranked."""
    rankings: list[dict[str, list[str]]] = [{} for _ in range(1 + len(WEIGHTS))]
    for query, text in progress(collection.queries.items(), collection.name):
        ids = collection.candidates[query]
        if order is not None:
            ids = [ids[i] for i in order(text, [collection.passages[i] for i in ids])]
        passages = [collection.passages[i] for i in ids]
        rankings[0][query] = ids
        by_index = sorted(reranker.rank(text, passages), key=lambda hit: hit.index)
        for ranking, weight in zip(rankings[1:], WEIGHTS, strict=True):  # as ``rank`` does, without scoring again
            _, ranked = fuse([[hit.logit for hit in by_index]], "max", weight)
            ranking[query] = [ids[i] for i in ranked]
    values = [measure(collection.qrels, ranking)["nDCG@10"] for ranking in rankings]
    return [sum(row) / len(row) for row in values]


def tabulate(rows: Sequence[tuple[str, list[float]]], first_stage: str) -> ResultTable:
    """One row per collection and their mean."""
    means = [sum(column) / len(rows) for column in zip(*(values for _, values in rows), strict=True)]
    header = ["collection", first_stage, *(f"{weight:g}" for weight in WEIGHTS)]
    cells = [[name, *(f"{value:.3f}" for value in values)] for name, values in [*rows, ("**mean**", means)]]
    return make_table(header, cells)


def make_orders(encoder_folder: Path | None) -> dict[str, Order | None]:
    """The first stages by name: BM25's order as it is, and that of an encoder's cosine similarity."""
    if encoder_folder is None:
        return {"BM25": None}
    import numpy as np

    from benchmarks.local_encoder import LocalEncoder

    encoder = LocalEncoder(encoder_folder)

    def sort_by_similarity(query: str, passages: list[str]) -> list[int]:
        similarities = np.array(encoder.embed_documents(passages)) @ np.array(encoder.embed_query(query))
        return [int(i) for i in np.argsort(-similarities, kind="stable")]

    return {"BM25": None, encoder.name: sort_by_similarity}


def main() -> None:
    """Measure, print the tables and write results/retrieval_weight.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+")
    parser.add_argument("--queries", type=int, help="questions per collection, drawn at random (default: all)")
    parser.add_argument("--encoder", type=Path, help="folder of a sentence encoder, as a second first stage")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained()
    collections = [read_collection(folder, queries=options.queries) for folder in options.collections]
    tables, results = {}, {}
    for first_stage, order in make_orders(options.encoder).items():
        rows = [(collection.name, rank_with_weights(collection, reranker, order)) for collection in collections]
        table_name = "retrieval_weight_bm25" if order is None else "retrieval_weight_dense"
        tables[table_name] = tabulate(rows, first_stage)
        results[first_stage] = {name: [round(value, 4) for value in values] for name, values in rows}
        print_table(tables[table_name], f"nDCG@10 by retrieval_weight, {first_stage} first")
    write_result("retrieval_weight", {"weights": WEIGHTS, "nDCG@10": results, "tables": tables})


if __name__ == "__main__":
    main()
