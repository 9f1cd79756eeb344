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

from examples.python_docs import compare_ranks, read_passages, shorten

QUESTION = "What does the yield keyword do?"


def main(question: str) -> None:
    """Show the first nodes before and after the postprocessor, and which nodes a query engine answers from."""
    nodes = [TextNode(text=passage, id_=str(i)) for i, passage in enumerate(read_passages())]
    llm = MockLLM(max_tokens=1)  # in place of your language model; the retriever and the reranker need none
    index = SimpleKeywordTableIndex(nodes, llm=llm)
    retriever = index.as_retriever(retriever_mode="simple", num_chunks_per_query=50)
    candidates = retriever.retrieve(question)
    ranked = GLiClassRerank(top_n=None).postprocess_nodes(candidates, query_str=question)
    print(f"{question}\n\nbefore (keyword table):")
    for node in candidates[:3]:
        print(f"  {node.node_id:>4}  {shorten(node.text, 90)}")
    print("\nafter (GLiClassRerank):")
    for node in ranked[:3]:
        print(f"  {node.node_id:>4}  {node.score:.3f}  {shorten(node.text, 90)}")
    print(compare_ranks(question, *([node.text for node in nodes] for nodes in (candidates, ranked))) or "")
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, node_postprocessors=[GLiClassRerank(top_n=3)])
    used = engine.query(question).source_nodes
    print(f"\nthe query engine answers from the nodes {', '.join(node.node_id for node in used)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else QUESTION)
