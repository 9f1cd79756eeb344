"""LangChain's document compressor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import ConfigDict, PrivateAttr, model_validator
from typing_extensions import override

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import Facets, LazyReranker, keep_facets, with_findings
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.options import LongPassages
from gliclass_rerank.validation import Dtype, check_count, check_threshold


class GLiClassRerank(BaseDocumentCompressor):
    """Keeps the documents that answer the query best, for instance in a ``ContextualCompressionRetriever``.

    Each document comes back as a copy with its score in ``metadata["relevance_score"]``, best
    first; with facets' scores in ``metadata["relevance_facets"]``, and where a long one was read in
    windows the best one's first and last character in ``metadata["relevance_span"]``. The model is
    loaded at first use; compressors of the same checkpoint share its weights, so instead of
    changing options, which are fixed, make another compressor.

    Args:
        model: A hub name, a local folder, a ready ``GLiClassReranker``, or None for the model
            inside the package.
        top_n: How many documents to keep, at least 1; None for all.
        score_threshold: Keep documents with ``score >= score_threshold``, in [0, 1]; None for all.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the best there is.
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_length: Tokens of query and document together; None for the checkpoint's own value.
        long_passages: "truncate" cuts documents that do not fit; "windows" scores overlapping parts,
            of which the best counts.
        revision: Branch, tag or commit on the hub.
        fusion: What the scores of several queries become: "max", "mean" or "rrf".
        together: Whether several queries share a forward pass, which is faster and moves scores.
        facets: Other things to know of each document; or a dict from each to the lowest score to keep.

    Raises:
        TypeError: An option is of another type.
        ValueError: An option is out of range (pydantic's ValidationError is one).

    Example:
        >>> documents = [Document("Rain falls."), Document("Leaves turn light into sugar.", id="b")]
        >>> [best] = GLiClassRerank(top_n=1).compress_documents(documents, "How do plants make sugar?")
        >>> best.id, 0 < best.metadata["relevance_score"] < 1
        ('b', True)
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)

    model: str | os.PathLike[str] | GLiClassReranker | None = None
    top_n: int | None = 3
    score_threshold: float | None = None
    device: str | None = None
    dtype: Dtype = "auto"
    max_length: int | None = None
    long_passages: LongPassages = "truncate"
    revision: str | None = None
    fusion: Fusion = "max"
    together: bool = False
    facets: Facets | None = None
    _reranker: LazyReranker = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _check(cls, options: dict[str, Any]) -> dict[str, Any]:
        # Before pydantic turns True into 1 and "2" into 2.
        check_count("top_n", options.get("top_n"))
        check_count("max_length", options.get("max_length"))
        check_threshold("score_threshold", options.get("score_threshold"))
        return {**options, "facets": keep_facets(options.get("facets"))}

    @model_validator(mode="after")
    def _prepare(self) -> Self:
        self._reranker = LazyReranker(
            self.model,
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
            long_passages=self.long_passages,
            revision=self.revision,
        )
        return self

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str | Sequence[str], callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Rerank documents.

        Args:
            documents: The retrieved documents; they are not changed.
            query: The question or search words; or several, whose scores are fused.
            callbacks: Not used.

        Returns:
            Copies of the best documents, best first; those of equal score in input order.

        Raises:
            ValueError: The query is empty or leaves no room for a document, or the model cannot
                be loaded.
        """
        texts = [document.page_content for document in documents]
        hits = self._reranker.rank(
            query,
            texts,
            top_k=self.top_n,
            threshold=self.score_threshold,
            fusion=self.fusion,
            together=self.together,
            facets=self.facets,
        )
        best = []
        for hit in hits:
            document = documents[hit.index]
            metadata = with_findings(document.metadata, hit, slice(0, len(hit.text)))
            best.append(document.model_copy(update={"metadata": {**metadata, "relevance_score": hit.score}}))
        return best

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
