"""LlamaIndex's node postprocessor."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle

from gliclass_rerank import GLiClassReranker, RankedPassage
from gliclass_rerank.adapter import Facets, LazyReranker, keep_facets, with_findings, without_findings
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.options import LongPassages
from gliclass_rerank.validation import Dtype, check_count, check_queries, check_threshold

dispatcher = get_dispatcher(__name__)

_RETRIEVAL_SCORE = "retrieval_score"


class GLiClassRerank(BaseNodePostprocessor):
    """Keeps the nodes that answer the query best, for instance in a query engine.

    Nodes come back best first, with their relevance as score; as copies where there is something to
    put into their metadata, which neither embeddings nor language models see: facets' scores as
    "relevance_facets", and where a long text was read in windows the first and last character of
    the best one as "relevance_span". The model is loaded at first use;
    postprocessors of the same checkpoint share its weights, so instead of changing the options that
    choose the model (model to revision), which are read once, make another postprocessor.

    Args:
        model: A hub name, a local folder, a ready ``GLiClassReranker``, or None for the model
            inside the package.
        top_n: How many nodes to keep, at least 1; None for all.
        score_threshold: Keep nodes with ``score >= score_threshold``, in [0, 1]; None for all.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the best there is.
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_length: Tokens of query and node together; None for the checkpoint's own value.
        long_passages: "truncate" cuts nodes that do not fit; "windows" scores overlapping parts, of
            which the best counts.
        revision: Branch, tag or commit on the hub.
        metadata_mode: Which metadata the model reads in front of the text (of windows, the first).
        keep_retrieval_score: Whether nodes come back with the score that they came with in
            ``metadata["retrieval_score"]``.
        use_embedding_strs: Whether the query bundle's ``custom_embedding_strs`` (of HyDE, for
            instance), where there are any, are the queries in place of ``query_str``.
        fusion: What the scores of several queries become: "max", "mean" or "rrf".
        together: Whether several queries share a forward pass, which is faster and moves scores.
        facets: Other things to know of each node; or a dict from each to the lowest score to keep.
        callback_manager: LlamaIndex's own.

    Raises:
        TypeError: An option is of another type.
        ValueError: An option is out of range (pydantic's ValidationError is one).

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> texts = ("Rain falls.", "Leaves turn light into sugar.")
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        >>> [best] = GLiClassRerank(top_n=1).postprocess_nodes(nodes, query_str="How do plants make sugar?")
        >>> best.text, 0 < best.score < 1
        ('Leaves turn light into sugar.', True)
    """

    model: str | None = Field(default=None, description="Hub name or folder; None for the bundled model.")
    top_n: int | None = Field(default=3, description="How many nodes to keep; None for all.")
    score_threshold: float | None = Field(default=None, description="Lowest score to keep, in [0, 1].")
    device: str | None = Field(default=None, description="Where the model runs; None for the best there is.")
    dtype: Dtype = Field(default="auto", description="Precision.")
    max_length: int | None = Field(default=None, description="Tokens of query and node together.")
    long_passages: LongPassages = Field(default="truncate", description="What becomes of nodes that do not fit.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    metadata_mode: MetadataMode = Field(default=MetadataMode.EMBED, description="Metadata that the model reads.")
    keep_retrieval_score: bool = Field(default=False, description="Keep the retriever's score in the metadata.")
    use_embedding_strs: bool = Field(default=False, description="Take the bundle's embedding strings as queries.")
    fusion: Fusion = Field(default="max", description="What several queries' scores become.")
    together: bool = Field(default=False, description="Whether several queries share a forward pass.")
    facets: Facets | None = Field(default=None, description="Facets, or each with the lowest score to keep.")
    _reranker: LazyReranker = PrivateAttr()

    def __init__(
        self,
        model: str | os.PathLike[str] | GLiClassReranker | None = None,
        top_n: int | None = 3,
        score_threshold: float | None = None,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        long_passages: LongPassages = "truncate",
        revision: str | None = None,
        metadata_mode: MetadataMode = MetadataMode.EMBED,
        keep_retrieval_score: bool = False,
        use_embedding_strs: bool = False,
        fusion: Fusion = "max",
        together: bool = False,
        facets: Facets | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        check_count("top_n", top_n)
        check_threshold("score_threshold", score_threshold)
        reranker = LazyReranker(
            model,
            device=device,
            dtype=dtype,
            max_length=max_length,
            long_passages=long_passages,
            revision=revision,
        )
        fields: dict[str, Any] = {
            **asdict(reranker.options),
            "top_n": top_n,
            "score_threshold": score_threshold,
            "metadata_mode": metadata_mode,
            "keep_retrieval_score": keep_retrieval_score,
            "use_embedding_strs": use_embedding_strs,
            "fusion": fusion,
            "together": together,
            "facets": keep_facets(facets),
            "callback_manager": callback_manager or CallbackManager(),
        }
        super().__init__(**fields)
        self._reranker = reranker

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex saves it."""
        return "GLiClassRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("there is no query: give query_bundle or query_str.")
        # Before the start event: it must not stay without an end.
        queries = check_queries("query", query_bundle.query_str)
        if self.use_embedding_strs and query_bundle.custom_embedding_strs:
            queries = check_queries("custom_embedding_strs", query_bundle.custom_embedding_strs)
        check_count("top_n", self.top_n)
        check_threshold("score_threshold", self.score_threshold)
        if not nodes:
            return []
        texts = [self._text(node.node) for node in nodes]
        dispatcher.event(
            ReRankStartEvent(
                query=query_bundle,
                nodes=nodes,
                top_n=len(nodes) if self.top_n is None else self.top_n,
                model_name=self.model or "bundled",
            )
        )
        best: list[NodeWithScore] = []
        try:
            hits = self._reranker.rank(
                queries,
                texts,
                top_k=self.top_n,
                threshold=self.score_threshold,
                fusion=self.fusion,
                together=self.together,
                facets=self.facets,
            )
            for hit in hits:
                best.append(NodeWithScore(node=self._with_findings(nodes[hit.index], hit), score=hit.score))
        finally:
            dispatcher.event(ReRankEndEvent(nodes=best))
        return best

    def _text(self, node: BaseNode) -> str:
        """What the model reads of a node: never what an earlier reranking wrote into it."""
        metadata = without_findings(node.metadata)
        if metadata != node.metadata:
            node = node.model_copy(update={"metadata": metadata})
        return node.get_content(metadata_mode=self.metadata_mode)

    def _with_findings(self, found: NodeWithScore, hit: RankedPassage) -> BaseNode:
        """The node, or a copy with what there is to say of it, where the next call's text does not see it."""
        node = found.node
        own = node.get_content(metadata_mode=MetadataMode.NONE)
        # Metadata stand in front; blanks around the text are lost there.
        found_at = hit.text.rfind(own.strip())
        start = found_at - (len(own) - len(own.lstrip()))
        metadata = with_findings(node.metadata, hit, slice(start, start + len(own)) if found_at >= 0 else None)
        if self.keep_retrieval_score:
            metadata[_RETRIEVAL_SCORE] = found.score
        if metadata == node.metadata:
            return node
        added = [key for key in metadata if key not in node.metadata or metadata[key] != node.metadata[key]]

        def hidden(keys: list[str]) -> list[str]:
            return [*keys, *(key for key in added if key not in keys)]

        return node.model_copy(
            update={
                "metadata": metadata,
                "excluded_embed_metadata_keys": hidden(node.excluded_embed_metadata_keys),
                "excluded_llm_metadata_keys": hidden(node.excluded_llm_metadata_keys),
            }
        )
