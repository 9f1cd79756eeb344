"""How often the first hit is the expected passage on the corpus in examples/, for BM25 and the model.

    python -m benchmarks.written_corpus [--model FOLDER]

Prints a table and writes results/written_corpus.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.results_file import write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.beir import read_passages, read_qrels, read_queries
from gliclass_rerank.data.bm25 import KeywordIndex
from gliclass_rerank.data.progress import progress

CORPUS = Path(__file__).parent.parent / "examples" / "corpus"


def main() -> None:
    """Ask every question of every set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub name or folder; the bundled model without it")
    options = parser.parse_args()
    corpus, questions = read_passages(CORPUS / "corpus.jsonl"), read_queries(CORPUS / "queries.jsonl")
    ids, passages = list(corpus), list(corpus.values())
    index = KeywordIndex(passages)
    reranker = GLiClassReranker.from_pretrained(options.model, dtype="float32")
    rows = []
    for path in sorted((CORPUS / "qrels").glob("*.tsv")):
        expected = read_qrels(path, questions, corpus)
        right = {"BM25": 0, "model": 0}
        for question in progress(expected, path.stem):
            right["BM25"] += any(ids[i] in expected[question] for i in index.search(questions[question], top_k=1))
            [hit] = reranker.rank(questions[question], passages, top_k=1)
            right["model"] += ids[hit.index] in expected[question]
        rows.append({"set": path.stem, "questions": len(expected), **right})
    table = Table("set", "questions", "BM25", "model", title="first hit is the expected passage")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    write_result("written_corpus", {"measure": "first hit is the expected passage", "sets": rows})


if __name__ == "__main__":
    main()
