"""Haystack's conventions: a limit always, one document of each id, metadata in the text, scores that are not scaled."""

import math
from collections.abc import Sequence

from haystack import Document

from gliclass_rerank.validation import check_count, check_threshold


def check_limits(top_k: int, score_threshold: float | None) -> None:
    """Refuse limits out of range; unlike elsewhere, ``top_k`` is no None."""
    if top_k is None:
        raise ValueError("top_k is None, expected an int of at least 1.")
    check_count("top_k", top_k)
    check_threshold("score_threshold", score_threshold)


def join_content(document: Document, meta_fields: Sequence[str], separator: str) -> str:
    """The metadata that are there, zero and False among them, and the content."""
    fields = (document.meta.get(name) for name in meta_fields)
    return separator.join([*(str(value) for value in fields if value is not None), document.content or ""])


def without_duplicates(documents: list[Document]) -> list[Document]:
    """One document for each id, the one with the highest score, where the id first stood."""
    best: dict[str, Document] = {}
    for document in documents:
        if document.id not in best or _retrieved(document) > _retrieved(best[document.id]):
            best[document.id] = document
    return list(best.values())


def _retrieved(document: Document) -> float:
    return -math.inf if document.score is None else document.score
