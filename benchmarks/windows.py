"""Long passages in windows: a paragraph at a random place in a long text, against the paragraph alone.

    python -m benchmarks.windows COLLECTION [--model FOLDER] [--queries 100]

Each of a question's first 10 candidates is put at a random place among paragraphs of other
articles, to a text of 3,000 words or a little more. The texts are ranked in windows and cut to what
the model takes; the bare paragraphs are ranked for comparison. Where the right text is first, its
span should hold the answer: so questions whose answers' words are known are asked. Prints a table and
writes results/windows.json.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.results_file import write_result
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
    """A text of at least so many words with the paragraph at a random place among others."""
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
    parser.add_argument("--model", help="hub name or folder; the bundled model without it")
    parser.add_argument("--queries", type=int, help="how many, drawn at random; all without it")
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
        there = {titles[i] for i in ids}
        others = [passage for i, passage in collection.passages.items() if titles[i] not in there]
        if not others:
            raise SystemExit(f"{options.collection}: passages need titles, to tell articles apart.")
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
        found = measure(qrels, run)
        first = [qrels[query].get(ids[0], 0) > 0 for query, ids in run.items()]
        ndcg = sum(found["nDCG@10"]) / len(run)
        rows.append({"read": way, "nDCG@10": round(ndcg, 4), "first": round(sum(first) / len(first), 4)})
    held = sum(spans) / max(len(spans), 1)
    table = Table("what is read", "nDCG@10", "right one first", title=f"{len(qrels)} questions of {collection.name}")
    for row in rows:
        table.add_row(row["read"], f"{row['nDCG@10']:.3f}", f"{row['first']:.1%}")
    Console().print(table)
    Console().print(f"of {len(spans)} right first texts the span holds the answer in {held:.1%}")
    write_result(
        "windows",
        {"collection": collection.name, "questions": len(qrels), "ways": rows, "spans": len(spans), "span holds": held},
    )


if __name__ == "__main__":
    main()
