"""The reranker as Haystack's ranker component."""

import asyncio
import inspect
import os
from dataclasses import replace
from typing import Any, get_args

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import ComponentDevice, Secret
from haystack_integrations.components.rankers.gliclass_rerank.haystack_conventions import (
    check_limits,
    drop_duplicates,
    join_content,
    shorten,
)

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.adapter import (
    Extract,
    Facets,
    LazyReranker,
    add_relevance,
    check_extract,
    check_items,
    normalize_facets,
    read_options,
)
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.options import LongPassages, LongQueries
from gliclass_rerank.validation import (
    Dtype,
    check_choice,
    check_required_count,
    check_retrieval_weight,
    check_some_queries,
    check_texts,
)


@component
class GLiClassRanker:
    """Returns the documents that answer the query best, best first, with their relevance as score.

    Documents come back as copies. Further keys of ``meta`` are present only if there is something to
    say: "relevance_facets" maps each facet to its score; "relevance_span" is the best window's first and
    last character in a content that was read in windows; "relevance_truncated" is True if the model read
    only a part of the text or query; "relevance_spans" holds the places of extracted sentences in the whole
    content. If documents share an id, the one with the highest score is ranked.

    The model is loaded by ``warm_up`` or at first use, and rankers of the same checkpoint share its
    weights. You can change an attribute at any time: the next run uses it.

    Args:
        model: A hub name, a local folder, None for the bundled model, or a ready
            ``GLiClassReranker``, which has its own values of device and of dtype to revision.
        device: A single device for the model; None for the first of CUDA, MPS and CPU that is present.
        token: Access token for the hub.
        top_k: How many documents to return at most.
        score_threshold: Return documents with ``score >= score_threshold``, in [0, 1]; None for all. It
            is compared with the scaled score, even if ``scale_score`` is False.
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
        meta_fields_to_embed: Metadata that the model reads before the content. If it reads windows, the
            first has the metadata and prefix, the last the suffix.
        embedding_separator: Text between those metadata and the content.
        query_prefix: Text before each query.
        query_suffix: Text after each query.
        document_prefix: Text before each document.
        document_suffix: Text after each document.
        scale_score: Whether scores are in [0, 1]; if not, they are the model's logits.

    Raises:
        TypeError: An option is of the wrong type.
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
        long_queries: LongQueries = "error",
        token_budget: int | None = None,
        revision: str | None = None,
        fusion: Fusion = "max",
        together: bool = False,
        facets: Facets | None = None,
        retrieval_weight: float = 0.0,
        extract: Extract | None = None,
        extract_tokens: int = 1000,
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
        check_retrieval_weight(retrieval_weight)
        check_extract(extract)
        check_required_count("extract_tokens", extract_tokens)
        for name, value, expected in (("device", device, ComponentDevice), ("token", token, Secret)):
            if value is not None and not isinstance(value, expected):
                raise TypeError(f"{name} is of type {type(value).__name__}; expected a {expected.__name__}, or None.")
        self._reranker = LazyReranker(
            model,
            device=None if device is None else device.to_torch_str(),
            dtype=dtype,
            max_length=max_length,
            long_passages=long_passages,
            long_queries=long_queries,
            token_budget=token_budget,
            revision=revision,
        )
        options = self._reranker.options  # a ready reranker has its own
        self.model = options.model
        self.device = ComponentDevice.from_str(options.device) if options.device else None
        self.token = token
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.dtype = options.dtype
        self.max_length = options.max_length
        self.long_passages = options.long_passages
        self.long_queries = options.long_queries
        self.token_budget = options.token_budget
        self.revision = options.revision
        self.fusion, self.together, self.facets = fusion, together, normalize_facets(facets)
        self.retrieval_weight = retrieval_weight
        self.extract, self.extract_tokens = extract, extract_tokens
        self.meta_fields_to_embed = check_texts("meta_fields_to_embed", meta_fields_to_embed or [])
        self.embedding_separator = embedding_separator
        self.query_prefix, self.query_suffix = query_prefix, query_suffix
        self.document_prefix, self.document_suffix = document_prefix, document_suffix
        self.scale_score = scale_score

    def warm_up(self) -> None:
        """Load the model, unless it is loaded already."""
        self._load()

    async def warm_up_async(self) -> None:
        """``warm_up`` in a worker thread, so that the event loop goes on."""
        await asyncio.to_thread(self.warm_up)

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which ``from_dict`` makes an equal ranker; a token is saved as its variable's name."""
        names = list(inspect.signature(GLiClassRanker.__init__).parameters)[1:]  # each is an attribute as well
        return default_to_dict(self, **{name: getattr(self, name) for name in names})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "GLiClassRanker":
        """The ranker that ``to_dict`` saved."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | list[str],
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        scale_score: bool | None = None,
        extract: Extract | None = None,
        extract_tokens: int | None = None,
    ) -> dict[str, list[Document]]:
        """Rerank documents.

        Args:
            query: The question or search words; or several, whose scores are fused.
            documents: The retrieved documents, which stay unchanged.
            top_k: Replaces the ranker's own ``top_k`` in this run; None for no change.
            score_threshold: Replaces the ranker's own ``score_threshold`` likewise.
            scale_score: Replaces the ranker's own ``scale_score`` likewise.
            extract: Replaces the ranker's own ``extract`` likewise.
            extract_tokens: Replaces the ranker's own ``extract_tokens`` likewise.

        Returns:
            ``documents``: copies of the best ones, best first; equal scores keep the input order.

        Raises:
            TypeError: An item is not a Document, or its content is not a str.
            ValueError: The query is empty or too long, an option is out of range, or the model
                cannot be loaded.
        """
        top_k = self.top_k if top_k is None else top_k
        score_threshold = self.score_threshold if score_threshold is None else score_threshold
        scale_score = self.scale_score if scale_score is None else scale_score
        extract = self.extract if extract is None else extract
        extract_tokens = self.extract_tokens if extract_tokens is None else extract_tokens
        check_limits(top_k, score_threshold)
        check_extract(extract)
        check_required_count("extract_tokens", extract_tokens)
        queries = [f"{self.query_prefix}{text}{self.query_suffix}" for text in check_some_queries("query", query)]
        documents = drop_duplicates(check_items("documents", documents, Document))
        reranker = self._load() if documents else self._reranker
        contents = [join_content(d, self.meta_fields_to_embed, self.embedding_separator) for d in documents]
        hits = reranker.rank(
            queries,
            [f"{self.document_prefix}{content}{self.document_suffix}" for content in contents],
            top_k=top_k,
            threshold=score_threshold,
            fusion=self.fusion,
            together=self.together,
            facets=self.facets,
            retrieval_weight=self.retrieval_weight,
        )
        best = {}
        for hit in hits:
            document = documents[hit.index]
            end = len(hit.text) - len(self.document_suffix)
            meta = add_relevance(document.meta, hit, slice(end - len(document.content or ""), end))
            best[hit.index] = replace(document, score=hit.score if scale_score else hit.logit, meta=meta)
        if extract is None:
            return {"documents": list(best.values())}
        shortened = reranker.compress(
            queries,
            hits,
            [document.content or "" for document in documents],
            extract_tokens,
            fusion=self.fusion,
            together=self.together,
            retrieval_weight=self.retrieval_weight,
        )
        return {"documents": [shorten(best[compressed.index], compressed) for compressed in shortened]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | list[str],
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        scale_score: bool | None = None,
        extract: Extract | None = None,
        extract_tokens: int | None = None,
    ) -> dict[str, list[Document]]:
        """``run`` in a worker thread, so that the event loop goes on."""
        options = (top_k, score_threshold, scale_score, extract, extract_tokens)
        return await asyncio.to_thread(self.run, query, documents, *options)

    def _load(self) -> LazyReranker:
        """The reranker with the ranker's current options, loaded."""
        device = None if self.device is None else self.device.to_torch_str()
        reranker = self._reranker.update({**read_options(self), "device": device})
        reranker.load(self.token.resolve_value if self.token else lambda: None)
        self._reranker = reranker
        return reranker
