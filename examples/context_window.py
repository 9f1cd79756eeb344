"""Fill a language model's context: the best passages above a threshold, until a token budget is full.

python -m examples.context_window ["your own question"]
"""

from __future__ import annotations

import sys

from examples.python_docs import read_passages, shorten
from gliclass_rerank import GLiClassReranker, fill_context
from gliclass_rerank.data.bm25 import KeywordIndex

QUESTION = "What happens when I compare two objects of different types?"
BUDGET = 500
THRESHOLD = 0.5


def main(question: str) -> None:
    """Show how many of the first stage's candidates fit into ``BUDGET`` tokens, and which."""
    passages = read_passages()
    candidates = [passages[i] for i in KeywordIndex(passages).search(question, top_k=50)]
    hits = GLiClassReranker.from_pretrained().rank(question, candidates)
    context = fill_context(hits, BUDGET, threshold=THRESHOLD)
    words = [sum(len(text.split()) for text in texts) for texts in (candidates, [hit.text for hit in context])]
    print(f"{question}\n\nbefore: {len(candidates)} passages, {words[0]} words")
    print(f"after: {len(context)} passages, {words[1]} words, each with a score of at least {THRESHOLD}\n")
    for hit in context:
        print(f"  {hit.score:.3f}  was {hit.index + 1:>2}  {shorten(hit.text, 90)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else QUESTION)
