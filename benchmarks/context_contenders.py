"""Ways to cut candidates down to a token budget, each as its users call it.

A contender takes a question, the candidates in BM25's order and a budget, and returns what it leaves of each candidate
by the candidate's index. LangChain's and LlamaIndex's own know no budget: the passages that they return are filled in
whole, in the order that they return them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from gliclass_rerank import GLiClassReranker, RankedPassage, compress_context, fill_context

Contender = Callable[[str, list[str], int], dict[int, str]]

_CUTOFFS = (0.2, 0.5)  # shares of a passage's sentences that the optimizer leaves


def make_contenders(reranker: GLiClassReranker, encoder_folder: Path | None) -> dict[str, Contender]:
    """All contenders by name.

    Args:
        reranker: Scores passages and sentences.
        encoder_folder: A sentence encoder for LangChain's and LlamaIndex's contenders; None leaves them out.
    """
    contenders: dict[str, Contender] = {
        "BM25's order": lambda _, passages, budget: _fill(range(len(passages)), passages, budget),
        "whole passages by score": partial(_rank, reranker),
    }
    if encoder_folder is not None:
        contenders |= _make_embedding_contenders(encoder_folder)
    return contenders | {"compress_context": partial(_compress, reranker)}


def _rank(reranker: GLiClassReranker, question: str, passages: list[str], budget: int) -> dict[int, str]:
    return {hit.index: hit.text for hit in fill_context(reranker.rank(question, passages), budget)}


def _compress(reranker: GLiClassReranker, question: str, passages: list[str], budget: int) -> dict[int, str]:
    compressed = compress_context(question, passages, token_budget=budget, reranker=reranker)
    return {passage.index: passage.text for passage in compressed}


def _make_embedding_contenders(folder: Path) -> dict[str, Contender]:
    from langchain_classic.retrievers.document_compressors import EmbeddingsFilter
    from langchain_core.documents import Document
    from llama_index.core.postprocessor import SentenceEmbeddingOptimizer
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    from benchmarks.local_encoder import LlamaIndexEncoder, LocalEncoder

    encoder = LocalEncoder(folder)

    def filter_by_embeddings(question: str, passages: list[str], budget: int) -> dict[int, str]:
        documents = [Document(text, metadata={"index": i}) for i, text in enumerate(passages)]
        filtered = EmbeddingsFilter(embeddings=encoder, k=len(documents)).compress_documents(documents, question)
        return _fill((document.metadata["index"] for document in filtered), passages, budget)

    def optimize(cutoff: float, question: str, passages: list[str], budget: int) -> dict[int, str]:
        optimizer = SentenceEmbeddingOptimizer(
            LlamaIndexEncoder(encoder), percentile_cutoff=cutoff, context_before=0, context_after=0
        )
        query, shortened = QueryBundle(question), []
        for passage in passages:  # one at a time, since it fails on a passage of few sentences
            try:
                [result] = optimizer.postprocess_nodes([NodeWithScore(node=TextNode(text=passage))], query)
                shortened.append(result.node.get_content())
            except ValueError:
                shortened.append(passage)
        return _fill(range(len(shortened)), shortened, budget)

    optimizers: dict[str, Contender] = {
        f"SentenceEmbeddingOptimizer, {cutoff:.0%} of the sentences": partial(optimize, cutoff) for cutoff in _CUTOFFS
    }
    return {"EmbeddingsFilter": filter_by_embeddings, **optimizers}


def _fill(order: Iterable[int], passages: list[str], budget: int) -> dict[int, str]:
    hits = [RankedPassage(i, 1.0, passages[i], truncated=False) for i in order]
    return {hit.index: hit.text for hit in fill_context(hits, budget)}
