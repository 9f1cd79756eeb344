"""Haystack's ranker component."""

import asyncio
import inspect
import os
from dataclasses import replace
from typing import Any, get_args

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import ComponentDevice, Secret
from haystack_integrations.components.rankers.gliclass_rerank.haystack_conventions import (
    check_limits,
    join_content,
    without_duplicates,
)

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import Facets, LazyReranker, keep_facets, with_findings
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.options import LongPassages
from gliclass_rerank.probabilities import logit
from gliclass_rerank.validation import Dtype, check_choice, check_some_queries, check_texts


@component
class GLiClassRanker:
    """Keeps the documents that answer the query best, best first, with their relevance as score.

    The model is loaded by ``warm_up`` or at first use; rankers of the same checkpoint share its
    weights. Of documents with the same id the one with the highest score is ranked. Facets' scores go
    into ``meta["relevance_facets"]``; where a long document was read in windows, the first and last
    character of the best one into ``meta["relevance_span"]``.

    Args:
        model: Hub name, folder or a ready ``GLiClassReranker``; None for the model in the package.
        device: Where the model runs, a single device; None for the best there is.
        token: Access token for the hub.
        top_k: How many documents to keep, at least 1.
        score_threshold: Keep documents with ``score >= score_threshold``, in [0, 1]; None for all.
            It is compared with the scaled score, whatever ``scale_score`` says.
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_length: Tokens of query and document together; None for the checkpoint's own value.
        long_passages: "truncate" cuts documents that do not fit; "windows" scores overlapping parts,
            of which the best counts.
        revision: Branch, tag or commit on the hub.
        fusion: What the scores of several queries become: "max", "mean" or "rrf".
        together: Whether several queries share a forward pass, which is faster and moves scores.
        facets: Other things to know of each document; or a dict from each to the lowest score to keep.
        meta_fields_to_embed: Metadata that the model reads in front of the content; of windows, the
            first one only, as the prefix (and the last one the suffix).
        embedding_separator: What stands between those and the content.
        query_prefix: Put in front of the query.
        query_suffix: Put behind the query.
        document_prefix: Put in front of each document's text.
        document_suffix: Put behind each document's text.
        scale_score: Whether scores are in [0, 1]; otherwise they are the model's logits, up to
            about 36, where the score cannot be told from 1.

    Raises:
        TypeError: An option is of another type.
        ValueError: An option is out of range, or ``device`` names several devices.

    Example:
        >>> documents = [Document(content="Rain falls."), Document(content="Leaves turn light into sugar.")]
        >>> [best] = GLiClassRanker(top_k=1).run(query="How do plants make sugar?", documents=documents)["documents"]
        >>> best.content, 0 < best.score < 1
        ('Leaves turn light into sugar.', True)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | GLiClassReranker | None = None,
        *,
        device: ComponentDevice | None = None,
        token: Secret | None = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False),  # noqa: B008
        top_k: int = 10,
        score_threshold: float | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        long_passages: LongPassages = "truncate",
        revision: str | None = None,
        fusion: Fusion = "max",
        together: bool = False,
        facets: Facets | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        query_prefix: str = "",
        query_suffix: str = "",
        document_prefix: str = "",
        document_suffix: str = "",
        scale_score: bool = True,
    ) -> None:
        check_limits(top_k, score_threshold)
        check_choice("fusion", fusion, get_args(Fusion))
        for name, value, kind in (("device", device, ComponentDevice), ("token", token, Secret)):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} is {type(value).__name__}, expected a {kind.__name__} or None.")
        where = None if device is None else device.to_torch_str()
        self._reranker = LazyReranker(
            model,
            device=where,
            dtype=dtype,
            max_length=max_length,
            long_passages=long_passages,
            revision=revision,
        )
        options = self._reranker.options
        self.model = options.model
        self.device = ComponentDevice.from_str(options.device) if options.device else None
        self.token = token
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.dtype = options.dtype
        self.max_length = options.max_length
        self.long_passages = options.long_passages
        self.revision = options.revision
        self.fusion, self.together, self.facets = fusion, together, keep_facets(facets)
        self.meta_fields_to_embed = check_texts("meta_fields_to_embed", meta_fields_to_embed or [])
        self.embedding_separator = embedding_separator
        self.query_prefix, self.query_suffix = query_prefix, query_suffix
        self.document_prefix, self.document_suffix = document_prefix, document_suffix
        self.scale_score = scale_score

    def warm_up(self) -> None:
        """Load the model, if it is not loaded yet."""
        self._reranker.load(self.token.resolve_value if self.token else lambda: None)

    async def warm_up_async(self) -> None:
        """``warm_up`` in a worker thread: the event loop goes on meanwhile."""
        await asyncio.to_thread(self.warm_up)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that ``from_dict`` makes an equal ranker of; a token is named by its variable."""
        names = list(inspect.signature(GLiClassRanker.__init__).parameters)[1:]  # each is kept under its own name
        return default_to_dict(self, **{name: getattr(self, name) for name in names})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "GLiClassRanker":
        """The ranker that ``to_dict`` described."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | list[str],
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        scale_score: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Rerank documents.

        Args:
            query: The question or search words; or several, whose scores are fused.
            documents: The retrieved documents; they are not changed.
            top_k: Goes before the ranker's own, unless None.
            score_threshold: Likewise.
            scale_score: Likewise.

        Returns:
            ``documents``: copies of the best ones, best first; those of equal score in input order.

        Raises:
            ValueError: The query is empty or too long, an option is out of range, or the model
                cannot be loaded.
        """
        top_k = self.top_k if top_k is None else top_k
        score_threshold = self.score_threshold if score_threshold is None else score_threshold
        scale_score = self.scale_score if scale_score is None else scale_score
        check_limits(top_k, score_threshold)
        queries = check_some_queries("query", query)
        documents = without_duplicates(documents)
        if documents:
            self.warm_up()
        contents = (join_content(d, self.meta_fields_to_embed, self.embedding_separator) for d in documents)
        texts = [f"{self.document_prefix}{content}{self.document_suffix}" for content in contents]
        queries = [f"{self.query_prefix}{query}{self.query_suffix}" for query in queries]
        hits = self._reranker.rank(
            queries,
            texts,
            top_k=top_k,
            threshold=score_threshold,
            fusion=self.fusion,
            together=self.together,
            facets=self.facets,
        )
        best = []
        for hit in hits:
            document = documents[hit.index]
            end = len(hit.text) - len(self.document_suffix)
            meta = with_findings(document.meta, hit, slice(end - len(document.content or ""), end))
            best.append(replace(document, score=hit.score if scale_score else logit(hit.score), meta=meta))
        return {"documents": best}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | list[str],
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        scale_score: bool | None = None,
    ) -> dict[str, list[Document]]:
        """``run`` in a worker thread: the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.run, query, documents, top_k, score_threshold, scale_score)
