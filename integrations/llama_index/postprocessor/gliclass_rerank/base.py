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

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import LazyReranker
from gliclass_rerank.validation import Dtype, check_count, check_query, check_threshold

dispatcher = get_dispatcher(__name__)

_RETRIEVAL_SCORE = "retrieval_score"


class GLiClassRerank(BaseNodePostprocessor):
    """Keeps the nodes that answer the query best, for instance in a query engine.

    Nodes come back best first, with their relevance as score. The model is loaded at first use;
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
        revision: Branch, tag or commit on the hub.
        metadata_mode: Which metadata the model reads in front of the text.
        keep_retrieval_score: Whether nodes come back as copies with the score that they came with
            in ``metadata["retrieval_score"]``, which neither embeddings nor language models see.
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

    model: str | None = Field(default=None, description="Hub name or folder; None for the embedded model.")
    top_n: int | None = Field(default=3, description="How many nodes to keep; None for all.")
    score_threshold: float | None = Field(default=None, description="Lowest score to keep, in [0, 1].")
    device: str | None = Field(default=None, description="Where the model runs; None for the best there is.")
    dtype: Dtype = Field(default="auto", description="Precision.")
    max_length: int | None = Field(default=None, description="Tokens of query and node together.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    metadata_mode: MetadataMode = Field(default=MetadataMode.EMBED, description="Metadata that the model reads.")
    keep_retrieval_score: bool = Field(default=False, description="Keep the retriever's score in the metadata.")
    _reranker: LazyReranker = PrivateAttr()

    def __init__(
        self,
        model: str | os.PathLike[str] | GLiClassReranker | None = None,
        top_n: int | None = 3,
        score_threshold: float | None = None,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        revision: str | None = None,
        metadata_mode: MetadataMode = MetadataMode.EMBED,
        keep_retrieval_score: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        check_count("top_n", top_n)
        check_threshold("score_threshold", score_threshold)
        reranker = LazyReranker(model, device=device, dtype=dtype, max_length=max_length, revision=revision)
        fields: dict[str, Any] = {
            **asdict(reranker.options),
            "top_n": top_n,
            "score_threshold": score_threshold,
            "metadata_mode": metadata_mode,
            "keep_retrieval_score": keep_retrieval_score,
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
        query = query_bundle.query_str
        # Before the start event: it must not stay without an end.
        check_query("query", query)
        check_count("top_n", self.top_n)
        check_threshold("score_threshold", self.score_threshold)
        if not nodes:
            return []
        texts = [node.node.get_content(metadata_mode=self.metadata_mode) for node in nodes]
        dispatcher.event(
            ReRankStartEvent(
                query=query_bundle,
                nodes=nodes,
                top_n=len(nodes) if self.top_n is None else self.top_n,
                model_name=self.model or "embedded",
            )
        )
        best: list[NodeWithScore] = []
        try:
            for hit in self._reranker.rank(query, texts, top_k=self.top_n, threshold=self.score_threshold):
                found = nodes[hit.index]
                node = _with_retrieval_score(found) if self.keep_retrieval_score else found.node
                best.append(NodeWithScore(node=node, score=hit.score))
        finally:
            dispatcher.event(ReRankEndEvent(nodes=best))
        return best


def _with_retrieval_score(found: NodeWithScore) -> BaseNode:
    """A copy of the node with its score among the metadata, where the next call's text does not see it."""
    node = found.node

    def hidden(keys: list[str]) -> list[str]:
        return [*keys, *({_RETRIEVAL_SCORE} - set(keys))]

    return node.model_copy(
        update={
            "metadata": {**node.metadata, _RETRIEVAL_SCORE: found.score},
            "excluded_embed_metadata_keys": hidden(node.excluded_embed_metadata_keys),
            "excluded_llm_metadata_keys": hidden(node.excluded_llm_metadata_keys),
        }
    )
