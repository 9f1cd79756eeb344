"""How often the first hit is the expected passage on the corpus in examples/, for BM25 and the model.

    python -m benchmarks.written_corpus [--model FOLDER]

Prints a table and writes results/written_corpus.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.beir import read_passages, read_qrels, read_queries
from gliclass_rerank.data.bm25 import KeywordIndex
from gliclass_rerank.data.progress import progress

CORPUS = Path(__file__).parent.parent / "examples" / "corpus"
SETS = {
    "all": "one for each passage, written before any model saw them",
    "test": "every seventh of those",
    "hard": "near misses hold nearly all of the question's words",
}


def main() -> None:
    """Search with every question of every set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub name or folder; default: the bundled model")
    options = parser.parse_args()
    corpus, questions = read_passages(CORPUS / "corpus.jsonl"), read_queries(CORPUS / "queries.jsonl")
    ids, passages = list(corpus), list(corpus.values())
    index = KeywordIndex(passages)
    reranker = GLiClassReranker.from_pretrained(options.model, dtype="float32")
    rows: list[dict[str, Any]] = []
    for name in SETS:
        expected = read_qrels(CORPUS / "qrels" / f"{name}.tsv", questions, corpus)
        right = {"BM25": 0, "model": 0}
        for question in progress(expected, name):
            right["BM25"] += any(ids[i] in expected[question] for i in index.search(questions[question], top_k=1))
            [hit] = reranker.rank(questions[question], passages, top_k=1)
            right["model"] += ids[hit.index] in expected[question]
        rows.append({"set": name, "questions": len(expected), **right})
    cells = [[SETS[row["set"]], row["questions"], row["BM25"], row["model"]] for row in rows]
    table = make_table(["questions", "", "BM25", "reranked"], cells)
    measure = "first hit is the expected passage"
    print_table(table, measure)
    write_result("written_corpus", {"measure": measure, "sets": rows, "table": table})


if __name__ == "__main__":
    main()
