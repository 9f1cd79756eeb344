"""What all adapters share: a reranker loaded at first use, and a clear word where an option is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, get_args

from gliclass_rerank.fusion import Fusion
from gliclass_rerank.options import LongPassages, RerankerOptions
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage
from gliclass_rerank.validation import (
    Dtype,
    check_choice,
    check_count,
    check_dtype,
    check_facets,
    check_some_queries,
    check_texts,
    check_threshold,
)

Facets = list[str] | dict[str, float]

_FACETS, _SPAN = "relevance_facets", "relevance_span"  # in the metadata


def with_findings(metadata: Mapping[str, Any], hit: RankedPassage, text: slice | None) -> dict[str, Any]:
    """A copy of a document's metadata with what was found in it beside its score.

    Args:
        metadata: The document's; what an earlier reranking found is dropped.
        hit: The ranked passage.
        text: Which of the characters that were ranked are the document's own; None where that is not known.

    Returns:
        It has "relevance_facets", a dict, where there are any; and of what was read in windows
        "relevance_span", where in the document's own text the best one begins and ends.

    Example:
        >>> with_findings({}, RankedPassage(0, 0.9, "title: a long text", False, span=(7, 13)), slice(7, 18))
        {'relevance_span': [0, 6]}
    """
    found = without_findings(metadata)
    if hit.facets:
        found[_FACETS] = dict(hit.facets)
    if hit.span is not None and text is not None:
        start, end = (min(max(place, text.start), text.stop) - text.start for place in hit.span)
        if start < end:
            found[_SPAN] = [start, end]
    return found


def without_findings(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a document's metadata without what ``with_findings`` put into it.

    Args:
        metadata: The document's.

    Example:
        >>> without_findings({"page": 2, "relevance_span": [0, 6]})
        {'page': 2}
    """
    return {key: value for key, value in metadata.items() if key not in (_FACETS, _SPAN)}


def keep_facets(facets: Iterable[str] | Mapping[str, float] | None) -> Facets | None:
    """Facets as an option to keep: checked, and of the adapter's own.

    Args:
        facets: See ``GLiClassReranker.rank``.

    Raises:
        TypeError: A facet is no str, or its lowest score no number.
        ValueError: A facet is empty, or its lowest score not in [0, 1].

    Example:
        >>> keep_facets(("is new",)), keep_facets({"is new": 0.5}), keep_facets(None)
        (['is new'], {'is new': 0.5}, None)
    """
    if facets is None:
        return None
    lowest = check_facets(facets)
    return lowest if isinstance(facets, Mapping) else list(lowest)


class LazyReranker:
    """A reranker that is loaded when it is first needed. Threads may share one; pickling leaves the weights out.

    Args:
        model: A hub name, a local folder, a ready ``GLiClassReranker`` (the other options are then
            its own, and none may be given), or None for the model inside this package.
        device: See ``GLiClassReranker.from_pretrained``.
        dtype: See there.
        max_length: See there.
        long_passages: See there.
        revision: See there.

    Raises:
        TypeError: ``model`` or ``max_length`` is of another type.
        ValueError: An option cannot be had, or one of the model's comes with a ready reranker.

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
        long_passages: LongPassages = "truncate",
        revision: str | None = None,
    ) -> None:
        self._ready: GLiClassReranker | None = None
        if isinstance(model, GLiClassReranker):
            if (device, dtype, max_length, long_passages, revision) != (None, "auto", None, "truncate", None):
                raise ValueError(
                    "model is a ready GLiClassReranker, so device, dtype, max_length, long_passages and revision are "
                    "its own. Give them to GLiClassReranker.from_pretrained instead."
                )
            self._ready = model
            self.options = model.options
            return
        if model is not None and not isinstance(model, (str, os.PathLike)):
            raise TypeError(
                f"model is a {type(model).__name__}, expected a name, a folder, a GLiClassReranker or None."
            )
        check_dtype(dtype)
        check_count("max_length", max_length)
        check_choice("long_passages", long_passages, get_args(LongPassages))
        name = None if model is None else os.fspath(model)
        self.options = RerankerOptions(name, device, dtype, max_length, revision, long_passages)

    def load(self, get_token: Callable[[], str | None] = lambda: None) -> GLiClassReranker:
        """The reranker, loaded now if it was not before.

        Args:
            get_token: Gives the access token for the hub; called only where one may be needed.

        Raises:
            CheckpointError: See ``GLiClassReranker.from_pretrained``.
            ValueError: See there.
        """
        if self._ready is None:  # two threads at once may both come here; they get the same weights
            token = None if self.options.model is None else get_token()
            self._ready = GLiClassReranker.from_pretrained(**asdict(self.options), token=token)
        return self._ready

    def rank(
        self,
        query: str | Iterable[str],
        texts: Iterable[str],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        fusion: Fusion = "max",
        together: bool = False,
        facets: Facets | None = None,
    ) -> list[RankedPassage]:
        """``GLiClassReranker.rank``, but for no texts nothing is loaded."""
        check_count("top_k", top_k)
        check_threshold("threshold", threshold)
        check_choice("fusion", fusion, get_args(Fusion))
        queries = check_some_queries("query", query)
        passages = check_texts("texts", texts)
        if not passages:
            return []
        return self.load().rank(
            queries,
            passages,
            top_k=top_k,
            threshold=threshold,
            fusion=fusion,
            together=together,
            facets=facets or (),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "_ready": None}
