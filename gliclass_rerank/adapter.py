"""What the adapters in integrations/ share: a reranker loaded at first use, and the metadata they write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Literal, TypeVar, get_args

from gliclass_rerank.compression.compress import CompressedPassage, compress_hits
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.options import LongPassages, LongQueries, RerankerOptions
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage
from gliclass_rerank.validation import (
    Dtype,
    check_choice,
    check_count,
    check_facets,
    check_model,
    check_ranking,
    check_required_count,
    check_retrieval_weight,
    check_threshold,
)

Extract = Literal["sentences"]
Facets = list[str] | dict[str, float]
Item = TypeVar("Item")

_FACETS, _SPAN, _TRUNCATED = "relevance_facets", "relevance_span", "relevance_truncated"
_SPANS = "relevance_spans"


def add_relevance(metadata: Mapping[str, Any], hit: RankedPassage, own_text: slice | None) -> dict[str, Any]:
    """A copy of a document's metadata with what the reranker says of the document beside its score.

    Args:
        metadata: The document's metadata. What an earlier reranking wrote is dropped.
        hit: The ranked passage.
        own_text: The place of the document's own text in the ranked text; None if it is unknown.

    Returns:
        "relevance_facets" maps each facet to its score. "relevance_truncated" is True if the model read only a
        part of the text or query. "relevance_span" is the best window's first and last character in the document's
        own text. Each key is present only if there is something to say.

    Example:
        >>> add_relevance({}, RankedPassage(0, 0.9, "title: a long text", False, span=(7, 13)), slice(7, 18))
        {'relevance_span': [0, 6]}
    """
    updated = remove_relevance(metadata)
    if hit.facets:
        updated[_FACETS] = dict(hit.facets)
    if hit.truncated:
        updated[_TRUNCATED] = True
    if hit.span is not None and own_text is not None:
        start, end = (min(max(place, own_text.start), own_text.stop) - own_text.start for place in hit.span)
        if start < end:
            updated[_SPAN] = [start, end]
    return updated


def add_spans(metadata: Mapping[str, Any], compressed: CompressedPassage) -> dict[str, Any]:
    """A copy of a compressed document's metadata with the places of its sentences.

    Args:
        metadata: The metadata that ``add_relevance`` returned.
        compressed: What is left of the document.

    Returns:
        "relevance_spans" holds the first and last character of each span in the document's full text; it replaces
        "relevance_span".

    Example:
        >>> from gliclass_rerank import ScoredSpan
        >>> add_spans({"page": 2}, CompressedPassage(0, 0.9, "Tea.", (ScoredSpan(5, 9, "Tea.", 0.8),)))
        {'page': 2, 'relevance_spans': [[5, 9]]}
    """
    others = {key: value for key, value in metadata.items() if key != _SPAN}
    return {**others, _SPANS: [[span.start, span.end] for span in compressed.spans]}


def check_extract(value: str | None) -> None:
    """Refuse anything but None and "sentences".

    Args:
        value: The option ``extract``.

    Raises:
        ValueError: It is something else.

    Example:
        >>> check_extract("sentences")
    """
    if value is not None:
        check_choice("extract", value, get_args(Extract))


def remove_relevance(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a document's metadata without the keys of ``add_relevance``.

    Args:
        metadata: The document's metadata.

    Example:
        >>> remove_relevance({"page": 2, "relevance_span": [0, 6]})
        {'page': 2}
    """
    return {key: value for key, value in metadata.items() if key not in (_FACETS, _SPAN, _SPANS, _TRUNCATED)}


def normalize_facets(facets: Iterable[str] | Mapping[str, float] | None) -> Facets | None:
    """Checked facets as a list or dict that belongs to the adapter alone.

    Args:
        facets: Statements to score, or a dict from each to the score that a passage needs to stay.

    Raises:
        TypeError: A facet is not a str, or its threshold is not a number.
        ValueError: A facet is empty, or its threshold is not in [0, 1].

    Example:
        >>> normalize_facets(("is new",)), normalize_facets({"is new": 0.5}), normalize_facets(None)
        (['is new'], {'is new': 0.5}, None)
    """
    if facets is None:
        return None
    thresholds = check_facets(facets)
    return thresholds if isinstance(facets, Mapping) else list(thresholds)


def check_option(name: str, value: Any) -> Any:  # noqa: ANN401
    """The value of an adapter's option, checked before pydantic turns True into 1 and "2" into 2.

    Args:
        name: The option's name.
        value: Its new value.

    Raises:
        TypeError: The value is of the wrong type.
        ValueError: The value is out of range.

    Example:
        >>> check_option("top_n", 3), check_option("facets", ("is new",))
        (3, ['is new'])
    """
    if name in ("top_n", "max_length", "token_budget"):
        check_count(name, value)
    elif name == "score_threshold":
        check_threshold(name, value)
    elif name == "extract":
        check_extract(value)
    elif name == "extract_tokens":
        check_required_count(name, value)
    elif name == "retrieval_weight":
        check_retrieval_weight(value)
    elif name == "facets":
        return normalize_facets(value)
    return value


def check_items(name: str, items: Iterable[Item], expected: type[Item]) -> list[Item]:
    """A list of a framework's documents.

    Args:
        name: The argument's name, for the error message.
        items: The documents.
        expected: The framework's class.

    Raises:
        TypeError: An item is not one of the framework's documents.

    Example:
        >>> check_items("numbers", (1, 2), int)
        [1, 2]
    """
    checked = list(items)
    for index, item in enumerate(checked):
        if not isinstance(item, expected):
            raise TypeError(
                f"{name}[{index}] is of type {type(item).__name__}; expected {expected.__name__}. "
                f"Pass a list of {expected.__name__}."
            )
    return checked


def read_options(adapter: object) -> dict[str, Any]:
    """The current values of the options that choose and load an adapter's model.

    Args:
        adapter: Has an attribute for each field of ``RerankerOptions``.

    Example:
        >>> read_options(RerankerOptions(max_length=64))["max_length"]
        64
    """
    return {field.name: getattr(adapter, field.name) for field in fields(RerankerOptions)}


class LazyReranker:
    """A reranker that is loaded at first use. Threads may share one; a pickle leaves the weights out.

    Args:
        model: A hub name, a local folder, None for the bundled model, or a ready ``GLiClassReranker``,
            which has its own values of the other options.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the first of CUDA, MPS and CPU that is present.
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_length: Tokens of query and passage together; None for the checkpoint's own value.
        revision: Branch, tag or commit on the hub.
        long_passages: "truncate" cuts passages that do not fit; "windows" scores overlapping parts.
        long_queries: "error" refuses queries that leave no room for a passage; "truncate" cuts them.
        token_budget: Tokens computed together; None for what suits the device.

    Attributes:
        options: The options that the reranker is loaded with.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range, or differs from that of the ready reranker.

    Example:
        >>> LazyReranker(device="cpu").rank("tea", ["Rain falls.", "Tea is brewed."], top_k=1)[0].index
        1
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | GLiClassReranker | None = None,
        *,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        revision: str | None = None,
        long_passages: LongPassages = "truncate",
        long_queries: LongQueries = "error",
        token_budget: int | None = None,
    ) -> None:
        self._reranker: GLiClassReranker | None = None
        self._ready = model if isinstance(model, GLiClassReranker) else None
        if isinstance(model, GLiClassReranker):
            self._reranker, name = model, model.options.model
        else:
            name = check_model(model)
        self.options = RerankerOptions(
            name, device, dtype, max_length, revision, long_passages, long_queries, token_budget
        )
        if self._reranker is not None:
            _refuse_other_options(self.options, self._reranker.options)
            self.options = self._reranker.options

    def update(self, options: Mapping[str, Any]) -> LazyReranker:
        """This reranker if it has these options, else another that has them.

        An adapter calls it with its current options before each use, so that it never ranks with an option
        that was changed meanwhile. It then holds the earlier reranker until the other has loaded: the two
        share the weights unless the options say otherwise.

        Args:
            options: The arguments of ``LazyReranker`` by name.

        Raises:
            TypeError: See ``LazyReranker``.
            ValueError: See ``LazyReranker``.
        """
        updated = LazyReranker(**options)
        is_same_model = updated._ready is None or updated._ready is self._ready
        return self if is_same_model and updated.options == self.options else updated

    def load(self, get_token: Callable[[], str | None] = lambda: None) -> GLiClassReranker:
        """The reranker, loaded now unless it is loaded already.

        Args:
            get_token: Returns the access token for the hub. It is called only if the model may come from there.

        Raises:
            CheckpointError: The checkpoint cannot be found or used (a ValueError).
            ValueError: This machine lacks the device, or another option is out of range.
        """
        # Two threads may both get here; their rerankers share one set of weights. A forked process, such as a
        # gunicorn worker, cannot use the reranker that its parent loaded.
        if self._reranker is None or not self._reranker.engine.model.scorer.is_own_process:
            token = None if self.options.model is None else get_token()
            self._reranker = GLiClassReranker.from_pretrained(**asdict(self.options), token=token)
        return self._reranker

    def rank(
        self,
        query: str | Iterable[str],
        texts: list[str],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        fusion: Fusion = "max",
        together: bool = False,
        facets: Facets | None = None,
        retrieval_weight: float = 0.0,
    ) -> list[RankedPassage]:
        """``GLiClassReranker.rank``, which does not load the model if there are no texts."""
        if not texts:  # a bad argument is refused all the same
            check_ranking(
                query,
                top_k=top_k,
                threshold=threshold,
                fusion=fusion,
                facets=facets or (),
                retrieval_weight=retrieval_weight,
            )
            return []
        return self.load().rank(
            query,
            texts,
            top_k=top_k,
            threshold=threshold,
            fusion=fusion,
            together=together,
            facets=facets or (),
            retrieval_weight=retrieval_weight,
        )

    def compress(
        self,
        query: str | Sequence[str],
        hits: Sequence[RankedPassage],
        texts: Sequence[str],
        token_budget: int,
        *,
        fusion: Fusion = "max",
        together: bool = False,
        retrieval_weight: float = 0.0,
    ) -> list[CompressedPassage]:
        """``compress_hits``, which does not load the model if there are no hits."""
        if not hits:
            return []
        return compress_hits(
            self.load(),
            query,
            hits,
            texts,
            token_budget=token_budget,
            fusion=fusion,
            together=together,
            retrieval_weight=retrieval_weight,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyReranker:
        return self  # its options never change

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "_reranker": None, "_ready": None}


def _refuse_other_options(options: RerankerOptions, own: RerankerOptions) -> None:
    """Refuse options beside a ready reranker, which has its own; default values are not options."""
    default = RerankerOptions()
    for name, value in asdict(options).items():
        if value not in (getattr(default, name), getattr(own, name)):
            raise ValueError(
                f"{name} is {value!r}, but model is a ready GLiClassReranker, which has its own {name}. "
                f"Pass {name} to GLiClassReranker.from_pretrained instead."
            )
