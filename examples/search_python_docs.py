"""Search Python's own language reference, before and after reranking.

The passages are the sections that ``help()`` shows (``pydoc_data.topics``, part of Python). The
first stage is BM25 by SQLite; its first 50 hits are reranked by the model inside the package.
Nothing is downloaded.

    python examples/search_python_docs.py ["your own question" ...]
"""

from __future__ import annotations

import sys
from pydoc_data.topics import topics
from time import perf_counter

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.keyword_index import KeywordIndex

QUESTIONS = (
    "How do I make sure a file gets closed even if an error happens?",
    "What happens when I compare two objects of different types?",
    "why does my default list argument keep its values between calls",
    "How can a class control what happens when a missing attribute is looked up?",
)
SHOWN = 3
CANDIDATES = 50
WORDS = 90  # of a passage, about


def split_topic(text: str) -> list[str]:
    """Join a topic's paragraphs into passages of about ``WORDS`` words."""
    passages: list[str] = []
    open_words = WORDS
    for paragraph in (" ".join(block.split()) for block in text.split("\n\n")):
        if len(paragraph.split()) < 4 and not paragraph.endswith((".", ":")):
            continue  # headings and rules
        if open_words + len(paragraph.split()) > WORDS:
            passages.append(paragraph)
            open_words = 0
        else:
            passages[-1] += " " + paragraph
        open_words += len(paragraph.split())
    return passages


def main(questions: tuple[str, ...]) -> None:
    """Search for each question and show the first hits side by side."""
    console = Console()
    # Some topics share a section, hence the dict: every passage once.
    passages = list(dict.fromkeys(passage for text in topics.values() for passage in split_topic(text)))
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


def shorten(text: str, size: int = 280) -> str:
    """The first ``size`` characters of a passage."""
    return text if len(text) <= size else text[:size].rsplit(" ", 1)[0] + " …"


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or QUESTIONS)
