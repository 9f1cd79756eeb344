"""Search Python's own language reference, before and after reranking.

The passages are the sections that ``help()`` shows (``pydoc_data.topics``, part of Python). The
first stage is BM25 by SQLite; its first 50 hits are reranked by the model inside the package.
Nothing is downloaded.

    python -m examples.search_python_docs ["your own question" ...]
"""

from __future__ import annotations

import sys
from time import perf_counter

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from examples.python_docs import read_passages, shorten
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.bm25 import KeywordIndex

QUESTIONS = (
    "How do I make sure a file gets closed even if an error happens?",
    "What happens when I compare two objects of different types?",
    "why does my default list argument keep its values between calls",
    "How can a class control what happens when a missing attribute is looked up?",
)
SHOWN = 3
CANDIDATES = 50


def main(questions: tuple[str, ...]) -> None:
    """Search for each question and show the first hits side by side."""
    console = Console()
    passages = read_passages()
    index = KeywordIndex(passages)
    reranker = GLiClassReranker.from_pretrained()
    console.print(f"{len(passages)} passages of Python's language reference, reranked on {reranker.device}\n")
    progress = Console(stderr=True)
    for question in track(questions, "searching", console=progress, disable=not progress.is_terminal, transient=True):
        found = [passages[i] for i in index.search(question, top_k=CANDIDATES)]
        start = perf_counter()
        hits = reranker.rank(question, found, top_k=SHOWN)
        seconds = perf_counter() - start
        table = Table(title=Text(question), title_justify="left", title_style="bold", show_lines=True, expand=True)
        table.add_column("BM25", ratio=1)
        table.add_column(f"reranked: {len(found)} passages in {seconds:.2f} s", ratio=1)
        for before, hit in zip(found, hits, strict=False):
            table.add_row(Text(shorten(before)), Text(f"{hit.score:.3f}  was {hit.index + 1}\n{shorten(hit.text)}"))
        console.print(table, "")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or QUESTIONS)
