"""What Haystack asks of documents: one of each id, and scores that are not scaled."""

import math

from haystack import Document


def without_duplicates(documents: list[Document]) -> list[Document]:
    """One document for each id, the one with the highest score, where the id first stood."""
    best: dict[str, Document] = {}
    for document in documents:
        if document.id not in best or _retrieved(document) > _retrieved(best[document.id]):
            best[document.id] = document
    return list(best.values())


def _retrieved(document: Document) -> float:
    return -math.inf if document.score is None else document.score


def logit(score: float) -> float:
    """The logit that a score came from."""
    inside = min(max(score, 5e-324), 1 - 2**-53)  # at 0 and 1 themselves it would be endless
    return math.log(inside) - math.log1p(-inside)
