"""LlamaIndex: a keyword index, its nodes reranked by GLiClass in a retriever query engine.

python -m examples.llama_index_rag ["your own question"]
"""

from __future__ import annotations

import sys

from llama_index.core import SimpleKeywordTableIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank

from examples.python_docs import read_passages, shorten

QUESTION = "why does my default list argument keep its values between calls"


def main(question: str) -> None:
    """Show what the first stage finds, what the postprocessor keeps, and the nodes that an answer is made from."""
    nodes = [TextNode(text=passage, id_=str(i)) for i, passage in enumerate(read_passages())]
    llm = MockLLM(max_tokens=1)  # stands for your language model; the retriever and the reranker need none
    index = SimpleKeywordTableIndex(nodes, llm=llm)
    retriever = index.as_retriever(retriever_mode="simple", num_chunks_per_query=50)
    reranker = GLiClassRerank(top_n=3)
    found = retriever.retrieve(question)
    print(f"{question}\n\nbefore (keyword table):")
    for node in found[:3]:
        print(f"  {node.node_id:>4}  {shorten(node.text, 90)}")
    print("\nafter (GLiClassRerank):")
    for node in reranker.postprocess_nodes(found, query_str=question):
        print(f"  {node.node_id:>4}  {node.score:.3f}  {shorten(node.text, 90)}")
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, node_postprocessors=[reranker])
    used = engine.query(question).source_nodes
    print(f"\nthe query engine answers from the nodes {', '.join(node.node_id for node in used)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else QUESTION)
