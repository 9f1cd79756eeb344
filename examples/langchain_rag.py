"""LangChain: a BM25 retriever, its hits compressed by GLiClass, and the same as an LCEL chain.

python -m examples.langchain_rag ["your own question"]
"""

from __future__ import annotations

import sys

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.prompts import PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from langchain_gliclass_rerank import GLiClassRerank
from pydantic import ConfigDict

from examples.python_docs import compare_ranks, read_passages, shorten
from gliclass_rerank.data.bm25 import KeywordIndex

QUESTION = "What is the difference between is and ==?"
PROMPT = PromptTemplate.from_template("Answer from these passages alone.\n\n{context}\n\nQuestion: {question}\n")


class KeywordRetriever(BaseRetriever):
    """SQLite's BM25 search as a LangChain retriever."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    documents: list[Document]
    index: KeywordIndex
    k: int = 50

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return [self.documents[i] for i in self.index.search(query, top_k=self.k if k is None else k)]


def main(question: str) -> None:
    """Show the first hits before and after the compressor, and the prompt that a chain builds from them."""
    passages = read_passages()
    documents = [Document(passage, id=str(i)) for i, passage in enumerate(passages)]
    retriever = KeywordRetriever(documents=documents, index=KeywordIndex(passages))
    reranker = GLiClassRerank(top_n=None)
    compression = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=retriever)
    print(f"{question}\n\nbefore (BM25):")
    candidates = retriever.invoke(question)
    for document in candidates[:3]:
        print(f"  {document.id:>4}  {shorten(document.page_content, 90)}")
    print("\nafter (GLiClassRerank):")
    ranked = compression.invoke(question)
    for document in ranked[:3]:
        print(f"  {document.id:>4}  {document.metadata['relevance_score']:.3f}  {shorten(document.page_content, 90)}")
    print(compare_ranks(question, *([d.page_content for d in documents] for documents in (candidates, ranked))) or "")

    def join_best(documents: list[Document]) -> str:
        return "\n".join(f"- {document.page_content}" for document in documents[:3])

    ranking = {"query": RunnablePassthrough(), "documents": retriever} | reranker.as_runnable()
    chain = {"context": ranking | join_best, "question": RunnablePassthrough()} | PROMPT
    print(f"\nthe prompt of the chain:\n{shorten(chain.invoke(question).to_string(), 300)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else QUESTION)
