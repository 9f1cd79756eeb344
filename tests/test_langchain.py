"""Features of LangChain alone: its retrievers, pipelines and chains, and its standard suite."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker, DocumentCompressorPipeline
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from langchain_gliclass_rerank import GLiClassCrossEncoder, GLiClassRerank
from langchain_tests.integration_tests import RetrieversIntegrationTests

from examples.langchain_rag import KeywordRetriever
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.bm25 import KeywordIndex
from tests.written_corpus import IDS, QUESTIONS, TEXTS

FP32 = {"device": "cpu", "dtype": "float32"}
DOCUMENTS = [Document(text, id=name) for name, text in zip(IDS, TEXTS, strict=True)]


def keyword_retriever() -> KeywordRetriever:
    return KeywordRetriever(documents=DOCUMENTS, index=KeywordIndex(TEXTS), k=20)


class CompressedRetriever(ContextualCompressionRetriever):
    """The stock retriever with our compressor, built as the standard suite builds retrievers: from ``k``."""

    def __init__(self, k: int = 3, **_: Any) -> None:
        super().__init__(base_compressor=GLiClassRerank(top_n=k, **FP32), base_retriever=keyword_retriever())


class TestStandardSuite(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return CompressedRetriever

    @property
    def retriever_query_example(self) -> str:
        return QUESTIONS[0]


def test_a_pipeline_of_compressors_passes_the_query_on(bundled: GLiClassReranker) -> None:
    pipeline = DocumentCompressorPipeline(
        transformers=[GLiClassRerank(top_n=10, **FP32), GLiClassRerank(top_n=2, **FP32)]
    )
    results = pipeline.compress_documents(DOCUMENTS, QUESTIONS[1])
    assert [d.id for d in results] == [IDS[hit.index] for hit in bundled.rank(QUESTIONS[1], TEXTS, top_k=2)]


def test_a_chain_hands_query_and_documents_over() -> None:
    retriever = keyword_retriever()
    chain = {"query": RunnablePassthrough(), "documents": retriever} | GLiClassRerank(**FP32).as_runnable()
    expected = GLiClassRerank(**FP32).compress_documents(retriever.invoke(QUESTIONS[2]), QUESTIONS[2])
    assert chain.invoke(QUESTIONS[2]) == expected


def test_the_stock_cross_encoder_reranker_gets_our_order(bundled: GLiClassReranker) -> None:
    stock = CrossEncoderReranker(model=GLiClassCrossEncoder(**FP32), top_n=5)
    results = stock.compress_documents(DOCUMENTS, QUESTIONS[3])
    assert [d.id for d in results] == [IDS[hit.index] for hit in bundled.rank(QUESTIONS[3], TEXTS, top_k=5)]


def test_the_cross_encoder_scores_pairs_in_their_order(bundled: GLiClassReranker) -> None:
    pairs = [("tea", "Tea is brewed."), ("rain", "Rain falls."), ("tea", "Rain falls.")]
    scores = GLiClassCrossEncoder(**FP32).score(pairs)
    assert scores == pytest.approx([bundled.score(query, [text])[0] for query, text in pairs], abs=1e-5)
    assert GLiClassCrossEncoder(**FP32).score([]) == []


def test_an_option_is_checked_when_it_is_assigned() -> None:
    compressor = GLiClassRerank(**FP32)
    with pytest.raises(ValueError, match="top_n is 0"):
        compressor.top_n = 0
    assert compressor.top_n == 3


@pytest.mark.parametrize("pairs", [[{"query": "tea", "passage": "Tea."}], ["ab"], [("tea",)], [(["tea"], "x")]])
def test_anything_but_pairs_of_str_is_refused_by_the_cross_encoder(pairs: Any) -> None:
    with pytest.raises(TypeError, match=r"\[0\]"):
        GLiClassCrossEncoder(**FP32).score(pairs)


def test_metadata_of_the_input_stays_its_own() -> None:
    document = Document("Tea is brewed.", metadata={"relevance_score": 7, "page": 2})
    [result] = GLiClassRerank(**FP32).compress_documents([document], "tea")
    assert result.metadata["page"] == 2 and result.metadata["relevance_score"] <= 1
    assert document.metadata == {"relevance_score": 7, "page": 2}
