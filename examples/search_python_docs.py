"""Search Python's own language reference, before and after reranking.

The passages are the sections that ``help()`` shows (``pydoc_data.topics``, part of Python). BM25 (SQLite's) finds
50 candidates for each question, and the bundled model reranks them. Nothing is downloaded. The examples' own
questions come with their right passages, so the tables also say where reranking wins and where it loses.

    python -m examples.search_python_docs ["your own question" ...]
"""

from __future__ import annotations

import sys
from time import perf_counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.python_docs import ANSWERS, compare_ranks, read_passages, shorten
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.bm25 import KeywordIndex

SHOWN = 3
CANDIDATES = 50


def main(questions: tuple[str, ...]) -> None:
    """Search for each question and show the first hits side by side."""
    console = Console()
    passages = read_passages()
    index = KeywordIndex(passages)
    reranker = GLiClassReranker.from_pretrained()
    console.print(f"{len(passages)} passages of Python's language reference, reranked on {reranker.device}\n")
    for question in questions:
        candidates = [passages[i] for i in index.search(question, top_k=CANDIDATES)]
        start = perf_counter()
        hits = reranker.rank(question, candidates)
        seconds = perf_counter() - start
        table = Table(title=Text(question), title_justify="left", title_style="bold", show_lines=True, expand=True)
        table.add_column("BM25", ratio=1)
        table.add_column(f"reranked: {len(candidates)} passages in {seconds:.2f} s", ratio=1)
        for before, hit in list(zip(candidates, hits, strict=True))[:SHOWN]:
            table.add_row(Text(shorten(before)), Text(f"{hit.score:.3f}  was {hit.index + 1}\n{shorten(hit.text)}"))
        console.print(table)
        console.print(compare_ranks(question, candidates, [hit.text for hit in hits]) or "", "")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or tuple(ANSWERS))
