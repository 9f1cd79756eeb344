"""Conventions of Haystack's rankers: there is always a limit, ids are unique, and metadata can be part of the text."""

import math
from collections.abc import Sequence
from dataclasses import replace

from haystack import Document

from gliclass_rerank.adapter import add_spans
from gliclass_rerank.compression.compress import CompressedPassage
from gliclass_rerank.validation import check_count, check_text, check_threshold


def check_limits(top_k: int, score_threshold: float | None) -> None:
    """Refuse limits out of range. Haystack's rankers always have a ``top_k``."""
    if top_k is None:
        raise ValueError("top_k is None; expected an int of at least 1.")
    check_count("top_k", top_k)
    check_threshold("score_threshold", score_threshold)


def join_content(document: Document, meta_fields: Sequence[str], separator: str) -> str:
    """The document's metadata fields and content. A field that is missing or None is left out; 0 and False stay."""
    values = (document.meta.get(field) for field in meta_fields)
    content = "" if document.content is None else check_text(f"content of document {document.id!r}", document.content)
    return separator.join([*(str(value) for value in values if value is not None), content])


def shorten(document: Document, compressed: CompressedPassage) -> Document:
    """A copy of a ranked document with its best sentences alone as content, and their places in its meta."""
    return replace(document, content=compressed.text, meta=add_spans(document.meta, compressed))


def drop_duplicates(documents: list[Document]) -> list[Document]:
    """One document per id: the one with the highest score, at the place of the first."""
    best: dict[str, Document] = {}
    for document in documents:
        if document.id not in best or _retrieval_score(document) > _retrieval_score(best[document.id]):
            best[document.id] = document
    return list(best.values())


def _retrieval_score(document: Document) -> float:
    return -math.inf if document.score is None else document.score
