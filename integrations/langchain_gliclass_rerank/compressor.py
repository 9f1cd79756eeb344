"""The reranker as LangChain's document compressor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import ConfigDict, PrivateAttr, ValidationInfo, field_validator, model_validator
from typing_extensions import override

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import (
    Extract,
    Facets,
    LazyReranker,
    add_relevance,
    add_spans,
    check_items,
    check_option,
    read_options,
)
from gliclass_rerank.compression.compress import CompressedPassage
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.options import LongPassages, LongQueries
from gliclass_rerank.validation import Dtype


class GLiClassRerank(BaseDocumentCompressor):
    """Returns the documents that answer the query best, for instance in a ``ContextualCompressionRetriever``.

    Each document comes back as a copy, best first, with its score in ``metadata["relevance_score"]``.
    Further keys are present only if there is something to say: "relevance_facets" maps each facet to
    its score; "relevance_span" is the best window's first and last character in a document that was
    read in windows; "relevance_truncated" is True if the model read only a part of the document or query;
    "relevance_spans" holds the places of extracted sentences in the whole document.

    The model is loaded at first use, and compressors of the same checkpoint share its weights. You can change
    an option at any time (by assignment or ``model_copy``): the next call uses it.

    Args:
        model: A hub name, a local folder, None for the bundled model, or a ready
            ``GLiClassReranker``, which has its own values of device to revision.
        top_n: How many documents to return at most; None for all.
        score_threshold: Return documents with ``score >= score_threshold``, in [0, 1]; None for all.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that is present.
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_length: Tokens of query and document together; None for the checkpoint's own value.
        long_passages: "truncate" cuts documents that do not fit; "windows" scores overlapping parts,
            of which the best counts.
        long_queries: "error" refuses a query that leaves no room for a document; "truncate" cuts it.
        token_budget: Tokens computed together; None for what suits the device.
        revision: Branch, tag or commit on the hub.
        fusion: How several queries' scores become one: "max", "mean" or "rrf".
        together: Whether several queries share a forward pass, which is faster and shifts scores.
        facets: Other statements to score ("is about prices"); or a dict from each to the score that a
            document needs to stay.
        retrieval_weight: How much the order of the retriever counts: documents are sorted by
            logit - retrieval_weight * ln(position). 0 ignores it; scores stay as they are.
        extract: "sentences" shortens the documents that are returned to the sentences that answer best, with "…" for
            each gap; None leaves them whole.
        extract_tokens: Tokens that the shortened documents may have together, estimated at four characters each.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range (pydantic's ValidationError is a ValueError).

    Example:
        >>> documents = [Document("Rain falls."), Document("Leaves turn light into sugar.", id="b")]
        >>> [best] = GLiClassRerank(top_n=1).compress_documents(documents, "How do plants make sugar?")
        >>> best.id, 0 < best.metadata["relevance_score"] < 1
        ('b', True)
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_assignment=True)

    model: str | os.PathLike[str] | GLiClassReranker | None = None
    top_n: int | None = 3
    score_threshold: float | None = None
    device: str | None = None
    dtype: Dtype = "auto"
    max_length: int | None = None
    long_passages: LongPassages = "truncate"
    long_queries: LongQueries = "error"
    token_budget: int | None = None
    revision: str | None = None
    fusion: Fusion = "max"
    together: bool = False
    facets: Facets | None = None
    retrieval_weight: float = 0.0
    extract: Extract | None = None
    extract_tokens: int = 1000
    _reranker: LazyReranker = PrivateAttr(default_factory=LazyReranker)

    @field_validator("*", mode="before")
    @classmethod
    def _check_option(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        return check_option(str(info.field_name), value)

    @model_validator(mode="after")
    def _check_model_options(self) -> Self:
        self._reranker.update(read_options(self))
        return self

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str | Sequence[str], callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Rerank documents.

        Args:
            documents: The retrieved documents, which stay unchanged.
            query: The question or search words; or several, whose scores are fused.
            callbacks: Not used.

        Returns:
            Copies of the best documents, best first; equal scores keep the input order.

        Raises:
            TypeError: An item is not a Document.
            ValueError: The query is empty or leaves no room for a document, or the model cannot
                be loaded.
        """
        documents = check_items("documents", documents, Document)
        reranker = self._reranker.update(read_options(self))
        texts = [document.page_content for document in documents]
        hits = reranker.rank(
            query,
            texts,
            top_k=self.top_n,
            threshold=self.score_threshold,
            fusion=self.fusion,
            together=self.together,
            facets=self.facets,
            retrieval_weight=self.retrieval_weight,
        )
        self._reranker = reranker
        best = {}
        for hit in hits:
            document = documents[hit.index]
            metadata = add_relevance(document.metadata, hit, slice(0, len(hit.text)))
            best[hit.index] = document.model_copy(update={"metadata": {**metadata, "relevance_score": hit.score}})
        if self.extract is None:
            return list(best.values())
        shortened = reranker.compress(
            query,
            hits,
            texts,
            self.extract_tokens,
            fusion=self.fusion,
            together=self.together,
            retrieval_weight=self.retrieval_weight,
        )
        return [_shorten(best[compressed.index], compressed) for compressed in shortened]

    def as_runnable(self) -> Runnable[dict[str, Any], list[Document]]:
        """A step for an LCEL chain: ``{"query": str or list, "documents": [...]}`` in, the best documents out.

        Example:
            >>> chain = {"query": lambda q: q, "documents": lambda q: [Document("Rain."), Document("Tea.")]}
            >>> chain = RunnableLambda(lambda q: q) | chain | GLiClassRerank(top_n=1).as_runnable()
            >>> [document.page_content for document in chain.invoke("Which drink is hot?")]
            ['Tea.']
        """

        def run(step: dict[str, Any]) -> list[Document]:
            return self.compress_documents(step["documents"], step["query"])

        return RunnableLambda(run, name="GLiClassRerank")


def _shorten(document: Document, compressed: CompressedPassage) -> Document:
    metadata = add_spans(document.metadata, compressed)
    return document.model_copy(update={"page_content": compressed.text, "metadata": metadata})
