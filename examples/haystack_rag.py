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

from examples.python_docs import read_passages, shorten

QUESTION = "How can a class control what happens when a missing attribute is looked up?"
PROMPT = """Answer from these passages alone.
{% for document in documents %}
- {{ document.content }}{% endfor %}

Question: {{ question }}"""


def main(question: str) -> None:
    """Show what the first stage finds, what the ranker keeps, and the prompt that the pipeline makes of it."""
    store = InMemoryDocumentStore()
    store.write_documents([Document(id=str(i), content=passage) for i, passage in enumerate(read_passages())])
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=50))
    pipeline.add_component("ranker", GLiClassRanker(top_k=3))
    pipeline.add_component("prompt", PromptBuilder(PROMPT, required_variables="*"))
    pipeline.connect("retriever", "ranker")
    pipeline.connect("ranker.documents", "prompt.documents")
    inputs = {"retriever": {"query": question}, "ranker": {"query": question}, "prompt": {"question": question}}
    outputs = pipeline.run(inputs, include_outputs_from={"retriever", "ranker"})
    print(f"{question}\n\nbefore (BM25):")
    for document in outputs["retriever"]["documents"][:3]:
        print(f"  {document.id:>4}  {shorten(document.content, 90)}")
    print("\nafter (GLiClassRanker):")
    for document in outputs["ranker"]["documents"]:
        print(f"  {document.id:>4}  {document.score:.3f}  {shorten(document.content, 90)}")
    print(f"\nthe prompt:\n{shorten(outputs['prompt']['prompt'], 300)}")
    again = Pipeline.loads(pipeline.dumps())
    print(f"\nsaved as YAML and loaded again: {type(again.get_component('ranker')).__name__}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else QUESTION)
