"""The reranker as LlamaIndex's node postprocessor."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self

from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle

from gliclass_rerank import GLiClassReranker, RankedPassage
from gliclass_rerank.adapter import (
    Extract,
    Facets,
    LazyReranker,
    add_relevance,
    add_spans,
    check_items,
    check_option,
    read_options,
    remove_relevance,
)
from gliclass_rerank.compression.compress import CompressedPassage
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.options import LongPassages, LongQueries
from gliclass_rerank.validation import Dtype, check_queries

dispatcher = get_dispatcher(__name__)

_RETRIEVAL_SCORE = "retrieval_score"


class GLiClassRerank(BaseNodePostprocessor):
    """Returns the nodes that answer the query best, for instance in a query engine.

    Nodes come back best first, with their relevance as score. A node comes back as a copy if there is more to
    say, in metadata that embedding and language models do not see: "relevance_facets" maps each facet to its
    score; "relevance_span" is the best window's first and last character in a text that was read in windows;
    "relevance_truncated" is True if the model read only a part of the text or query; "relevance_spans" holds the
    places of extracted sentences in the whole text.

    The model is loaded at first use, and postprocessors of the same checkpoint share its weights. You can
    change an option at any time (by assignment or ``model_copy``): the next call uses it.

    Args:
        model: A hub name, a local folder, None for the bundled model, or a ready
            ``GLiClassReranker``, which has its own values of device to revision.
        top_n: How many nodes to return at most; None for all.
        score_threshold: Return nodes with ``score >= score_threshold``, in [0, 1]; None for all.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that is present.
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_length: Tokens of query and node together; None for the checkpoint's own value.
        long_passages: "truncate" cuts nodes that do not fit; "windows" scores overlapping parts, of
            which the best counts.
        revision: Branch, tag or commit on the hub.
        metadata_mode: Which metadata the model reads before the text (if in windows, in the first one).
        keep_retrieval_score: Whether to write the retriever's score into ``metadata["retrieval_score"]``.
        use_embedding_strs: Whether the query bundle's ``custom_embedding_strs`` (for instance HyDE's)
            replace ``query_str`` as queries if the bundle has any.
        fusion: How several queries' scores become one: "max", "mean" or "rrf".
        together: Whether several queries share a forward pass, which is faster and shifts scores.
        facets: Other statements to score ("is about prices"); or a dict from each to the score that a
            node needs to stay.
        callback_manager: LlamaIndex's callbacks.
        long_queries: "error" refuses a query that leaves no room for a node; "truncate" cuts it.
        token_budget: Tokens computed together; None for what suits the device.
        retrieval_weight: How much the order of the retriever counts: nodes are sorted by
            logit - retrieval_weight * ln(position). 0 ignores it; scores stay as they are.
        extract: "sentences" shortens the nodes that are returned to the sentences that answer best, with "…" for
            each gap; None leaves them whole.
        extract_tokens: Tokens that the shortened nodes may have together, estimated at four characters each.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range (pydantic's ValidationError is a ValueError).

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> texts = ("Rain falls.", "Leaves turn light into sugar.")
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        >>> [best] = GLiClassRerank(top_n=1).postprocess_nodes(nodes, query_str="How do plants make sugar?")
        >>> best.text, 0 < best.score < 1
        ('Leaves turn light into sugar.', True)
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, validate_assignment=True)

    model: str | None = Field(default=None, description="Hub name or folder; None for the bundled model.")
    top_n: int | None = Field(default=3, description="How many nodes to return at most; None for all.")
    score_threshold: float | None = Field(default=None, description="The score that a node needs, in [0, 1].")
    device: str | None = Field(default=None, description="Device of the model; None for the best one present.")
    dtype: Dtype = Field(default="auto", description="Precision.")
    max_length: int | None = Field(default=None, description="Tokens of query and node together.")
    long_passages: LongPassages = Field(default="truncate", description="Cut nodes that do not fit, or read windows.")
    long_queries: LongQueries = Field(default="error", description="Refuse queries that do not fit, or cut them.")
    token_budget: int | None = Field(default=None, description="Tokens computed together.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    metadata_mode: MetadataMode = Field(default=MetadataMode.EMBED, description="Metadata that the model reads.")
    keep_retrieval_score: bool = Field(default=False, description="Write the retriever's score into the metadata.")
    use_embedding_strs: bool = Field(default=False, description="Use the bundle's embedding strings as queries.")
    fusion: Fusion = Field(default="max", description="How several queries' scores become one.")
    together: bool = Field(default=False, description="Whether several queries share a forward pass.")
    facets: Facets | None = Field(default=None, description="Statements to score, or a dict to the scores needed.")
    retrieval_weight: float = Field(default=0.0, description="How much the retriever's order counts.")
    extract: Extract | None = Field(default=None, description="Whether to return the best sentences alone.")
    extract_tokens: int = Field(default=1000, description="Tokens of all extracted sentences together.")
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
        long_queries: LongQueries = "error",
        token_budget: int | None = None,
        retrieval_weight: float = 0.0,
        extract: Extract | None = None,
        extract_tokens: int = 1000,
    ) -> None:
        reranker = LazyReranker(
            model,
            device=device,
            dtype=dtype,
            max_length=max_length,
            long_passages=long_passages,
            long_queries=long_queries,
            token_budget=token_budget,
            revision=revision,
        )
        options: dict[str, Any] = {
            **asdict(reranker.options),
            "top_n": top_n,
            "score_threshold": score_threshold,
            "metadata_mode": metadata_mode,
            "keep_retrieval_score": keep_retrieval_score,
            "use_embedding_strs": use_embedding_strs,
            "fusion": fusion,
            "together": together,
            "facets": facets,
            "retrieval_weight": retrieval_weight,
            "extract": extract,
            "extract_tokens": extract_tokens,
            "callback_manager": callback_manager or CallbackManager(),
        }
        super().__init__(**options)
        self._reranker = reranker

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_unknown_options(cls, options: Any, validate: Callable[[Any], Self]) -> Self:  # noqa: ANN401
        # A ValueError, unlike the constructor's TypeError, lets pydantic go on to the other types of a union.
        unknown = set(options) - set(cls.model_fields) if isinstance(options, dict) else set()
        if unknown:
            raise ValueError(f"{', '.join(sorted(map(str, unknown)))}: {cls.__name__} has no such option.")
        return validate(options)

    @field_validator("*", mode="before")
    @classmethod
    def _check_option(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        return check_option(str(info.field_name), value)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex saves a postprocessor."""
        return "GLiClassRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("query_bundle is None, so there is no query. Pass query_bundle or query_str.")
        # Refuse bad input before the start event, which would otherwise describe a call that never began.
        queries = check_queries("query", query_bundle.query_str)
        if self.use_embedding_strs and query_bundle.custom_embedding_strs:
            queries = check_queries("custom_embedding_strs", query_bundle.custom_embedding_strs)
        nodes = check_items("nodes", nodes, NodeWithScore)
        reranker = self._reranker.update(read_options(self))
        if not nodes:
            return []
        texts = [self._read_text(hit.node) for hit in nodes]
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
            hits = reranker.rank(
                queries,
                texts,
                top_k=self.top_n,
                threshold=self.score_threshold,
                fusion=self.fusion,
                together=self.together,
                facets=self.facets,
                retrieval_weight=self.retrieval_weight,
            )
            if self.extract is None:
                best += [NodeWithScore(node=self._annotate(nodes[hit.index], hit), score=hit.score) for hit in hits]
            else:
                best += self._extract(reranker, queries, nodes, hits)
        finally:
            dispatcher.event(ReRankEndEvent(nodes=best))
        self._reranker = reranker
        return best

    def _extract(
        self, reranker: LazyReranker, queries: list[str], nodes: list[NodeWithScore], hits: list[RankedPassage]
    ) -> list[NodeWithScore]:
        """Copies of the hits' nodes, with their best sentences alone as text."""
        shortened = reranker.compress(
            queries,
            hits,
            [retrieved.node.get_content(metadata_mode=MetadataMode.NONE) for retrieved in nodes],
            self.extract_tokens,
            fusion=self.fusion,
            together=self.together,
            retrieval_weight=self.retrieval_weight,
        )
        hits_by_index = {hit.index: hit for hit in hits}
        copies = []
        for compressed in shortened:
            node = self._annotate(nodes[compressed.index], hits_by_index[compressed.index], compressed)
            if node is nodes[compressed.index].node:
                node = node.model_copy()
            node.set_content(compressed.text)
            copies.append(NodeWithScore(node=node, score=compressed.score))
        return copies

    def _read_text(self, node: BaseNode) -> str:
        """The text of a node for the model, without what an earlier reranking wrote into its metadata."""
        metadata = remove_relevance(node.metadata)
        if metadata != node.metadata:
            node = node.model_copy(update={"metadata": metadata})
        return node.get_content(metadata_mode=self.metadata_mode)

    def _annotate(
        self, retrieved: NodeWithScore, hit: RankedPassage, compressed: CompressedPassage | None = None
    ) -> BaseNode:
        """The node; or a copy with new metadata, which no model sees, if there is something to say of it."""
        node = retrieved.node
        content = node.get_content(metadata_mode=MetadataMode.NONE)
        # LlamaIndex puts metadata before the text and strips blanks around it.
        stripped_at = hit.text.rfind(content.strip())
        start = stripped_at - (len(content) - len(content.lstrip()))
        own_text = slice(start, start + len(content)) if stripped_at >= 0 else None
        metadata = add_relevance(node.metadata, hit, own_text)
        if compressed is not None:
            metadata = add_spans(metadata, compressed)
        if self.keep_retrieval_score:
            metadata[_RETRIEVAL_SCORE] = retrieved.score
        if metadata == node.metadata:
            return node
        new_keys = [key for key in metadata if key not in node.metadata or metadata[key] != node.metadata[key]]

        def hide(excluded: list[str]) -> list[str]:
            return [*excluded, *(key for key in new_keys if key not in excluded)]

        return node.model_copy(
            update={
                "metadata": metadata,
                "excluded_embed_metadata_keys": hide(node.excluded_embed_metadata_keys),
                "excluded_llm_metadata_keys": hide(node.excluded_llm_metadata_keys),
            }
        )
