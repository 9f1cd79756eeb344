"""Rank paragraphs hidden in long texts: read in windows, cut, and alone for comparison.

    python -m benchmarks.windows COLLECTION [--model FOLDER] [--queries 100]

Each of a question's first 10 candidates is placed at random among paragraphs of other articles, in a text
of 3,000 words or a little more. The texts are ranked in windows, and cut to the model's length; the bare
paragraphs are ranked for comparison. If the right text comes first, its span should hold the answer, so
only questions with known answers count. Prints a table and writes results/windows.json.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker, RankedPassage
from gliclass_rerank.data.beir import read_rows
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import read_collection
from gliclass_rerank.evaluation.measures import measure

SEED = 0
CANDIDATES = 10
WORDS = 3000
BARE, WINDOWS, CUT = "the paragraph alone", "in a long text, in windows", "in a long text, cut"


def bury(paragraph: str, others: Sequence[str], rng: random.Random) -> str:
    """A text of at least ``WORDS`` words with the paragraph at a random place among others."""
    chosen, words = [paragraph], len(paragraph.split())
    while words < WORDS:
        chosen.append(rng.choice(others))
        words += len(chosen[-1].split())
    rng.shuffle(chosen)
    return "\n\n".join(chosen)


def main() -> None:
    """Measure, print a table and write results/windows.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--model", help="hub name or folder; default: the bundled model")
    parser.add_argument("--queries", type=int, help="number of questions, drawn at random; default: all")
    options = parser.parse_args()
    collection = read_collection(options.collection, queries=options.queries, seed=SEED)
    titles = {row["_id"]: row.get("title") for _, row in read_rows(options.collection / "corpus.jsonl")}
    answers = {row["_id"]: row.get("answers", []) for _, row in read_rows(options.collection / "queries.jsonl")}
    cut = GLiClassReranker.from_pretrained(options.model)
    windows = GLiClassReranker.from_pretrained(options.model, long_passages="windows")
    runs: dict[str, dict[str, list[str]]] = {BARE: {}, WINDOWS: {}, CUT: {}}
    spans: list[bool] = []
    for query, text in progress(collection.queries.items(), collection.name):
        ids = collection.candidates[query][:CANDIDATES]
        right = [i for i in ids if collection.qrels[query].get(i, 0) > 0]
        if not right or not answers[query]:
            continue
        rng = random.Random(f"{SEED} {query}")
        excluded = {titles[i] for i in ids}
        others = [passage for i, passage in collection.passages.items() if titles[i] not in excluded]
        if not others:
            raise SystemExit(f"{options.collection}: passages need titles that tell articles apart.")
        bare = [collection.passages[i] for i in ids]
        long = [bury(paragraph, others, rng) for paragraph in bare]
        ranked: dict[str, list[RankedPassage]] = {
            BARE: cut.rank(text, bare),
            WINDOWS: windows.rank(text, long),
            CUT: cut.rank(text, long),
        }
        for way, hits in ranked.items():
            runs[way][query] = [ids[hit.index] for hit in hits]
        best = ranked[WINDOWS][0]
        if ids[best.index] in right and best.span is not None:
            spans.append(any(answer in best.text[slice(*best.span)] for answer in answers[query]))
    qrels = {query: collection.qrels[query] for query in runs[BARE]}
    rows: list[dict[str, Any]] = []
    for way, run in runs.items():
        values = measure(qrels, run)["nDCG@10"]
        first = [qrels[query].get(ids[0], 0) > 0 for query, ids in run.items()]
        ndcg = sum(values) / len(run)
        rows.append({"read": way, "nDCG@10": round(ndcg, 4), "first": round(sum(first) / len(first), 4)})
    share = sum(spans) / max(len(spans), 1)
    cells = [[row["read"], f"{row['nDCG@10']:.3f}", f"{row['first']:.1%}"] for row in rows]
    table = make_table(["what is read", "nDCG@10", "the right one is first"], cells)
    print_table(table, f"{len(qrels)} questions of {collection.name}")
    Console().print(f"The span holds the answer in {share:.1%} of {len(spans)} right first texts.")
    result = {"collection": collection.name, "questions": len(qrels), "ways": rows}
    write_result("windows", result | {"spans": len(spans), "span holds": share, "table": table})


if __name__ == "__main__":
    main()
