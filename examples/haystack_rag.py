"""Haystack: a pipeline of in-memory BM25 and GLiClass, saved as YAML and loaded again.

python -m examples.haystack_rag ["your own question"]
"""

from __future__ import annotations

import sys

from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.rankers.gliclass_rerank import GLiClassRanker

from examples.python_docs import compare_ranks, read_passages, shorten

QUESTION = "What happens when I compare two objects of different types?"
PROMPT = """Answer from these passages alone.
{% for document in documents[:3] %}
- {{ document.content }}{% endfor %}

Question: {{ question }}"""


def main(question: str) -> None:
    """Show the first hits before and after the ranker, and the prompt that the pipeline builds from them."""
    store = InMemoryDocumentStore()
    store.write_documents([Document(id=str(i), content=passage) for i, passage in enumerate(read_passages())])
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=50))
    pipeline.add_component("ranker", GLiClassRanker(top_k=50))
    pipeline.add_component("prompt", PromptBuilder(PROMPT, required_variables="*"))
    pipeline.connect("retriever", "ranker")
    pipeline.connect("ranker.documents", "prompt.documents")
    inputs = {"retriever": {"query": question}, "ranker": {"query": question}, "prompt": {"question": question}}
    outputs = pipeline.run(inputs, include_outputs_from={"retriever", "ranker"})
    candidates, ranked = outputs["retriever"]["documents"], outputs["ranker"]["documents"]
    print(f"{question}\n\nbefore (BM25):")
    for document in candidates[:3]:
        print(f"  {document.id:>4}  {shorten(document.content, 90)}")
    print("\nafter (GLiClassRanker):")
    for document in ranked[:3]:
        print(f"  {document.id:>4}  {document.score:.3f}  {shorten(document.content, 90)}")
    print(compare_ranks(question, *([d.content or "" for d in documents] for documents in (candidates, ranked))) or "")
    print(f"\nthe prompt:\n{shorten(outputs['prompt']['prompt'], 300)}")
    loaded = Pipeline.loads(pipeline.dumps())
    print(f"\nsaved as YAML and loaded again: {type(loaded.get_component('ranker')).__name__}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else QUESTION)
