"""Texts, a reranker that waits to be released, and a few calls that the tests of the server share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import httpx

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.engine.loading import LoadedModel
from gliclass_rerank.engine.passages import LabelledPassage, PassageLogits, PassageScorer
from gliclass_rerank.options import RerankerOptions

QUERY = "How do plants make sugar?"
PASSAGES = ["The market closed early.", "Leaves turn light, water and air into sugar.", "Sugar comes in bags."]


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Return as soon as a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        threading.Event().wait(0.01)


def read_metrics(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


class PanicError(BaseException):
    """Like the panic of a native library, which is not an Exception."""


class GatedEngine(PassageScorer):
    """Scores nothing before the gate opens, and remembers what it got.

    A passage's logit is its length. The passages "poison", "broken" and "panic" raise.
    """

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model)
        self.entered, self.gate = threading.Event(), threading.Event()
        self.pieces: list[list[tuple[str, str]]] = []

    def score(self, pairs: Sequence[LabelledPassage]) -> list[PassageLogits]:
        self.entered.set()
        assert self.gate.wait(30)
        self.pieces.append([(pair.labels[0], pair.text) for pair in pairs])
        texts = {pair.text for pair in pairs}
        for text, error in (("poison", ValueError), ("broken", RuntimeError), ("panic", PanicError)):
            if text in texts:
                raise error(f"{text} over a secret passage")
        return [PassageLogits((float(len(pair.text)),), (), None, False) for pair in pairs]

    @property
    def queries(self) -> set[str]:
        return {query for piece in self.pieces for query, _ in piece}


def gate(reranker: GLiClassReranker) -> tuple[GLiClassReranker, GatedEngine]:
    """A reranker like another one, with a gated engine."""
    gated = GatedEngine(reranker.engine.model)

    class GatedReranker(GLiClassReranker):
        def __init__(self, model: LoadedModel, options: RerankerOptions) -> None:
            super().__init__(model, options)
            self.engine = gated

    return GatedReranker(reranker.engine.model, reranker.options), gated
