"""Rerank and classify through the scheduler: requests become items that the engine scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from gliclass_rerank.classifier import ClassificationType, Prediction, ZeroShotClassifier, choose_labels
from gliclass_rerank.engine.passages import LabelledPassage, PassageLogits, PassageScorer
from gliclass_rerank.probabilities import sigmoid, softmax
from gliclass_rerank.reranker import GLiClassReranker
from gliclass_rerank.serving.scheduler import Item, Scheduler, Score

_BYTES_PER_TOKEN = 4  # an estimate
_PROMPT_TOKENS = 8  # of a sequence beside its texts; an estimate
_CHARACTERS_PER_PLACE = 4000  # of a passage that takes one place in the queue


class ScoringService:
    """One model behind a scheduler.

    Args:
        reranker: The model, and how to score with it. A query that does not fit is cut, and reported as such.
        max_waiting: Passages that may wait.
        seconds: How long callers are going to wait; None for ever.
        on_scored: Called with the number of passages that have been scored.
    """

    def __init__(
        self,
        reranker: GLiClassReranker,
        *,
        max_waiting: int,
        seconds: float | None = None,
        on_scored: Callable[[int], None] = lambda count: None,
    ) -> None:
        model = reranker.engine.model
        self.scheduler = Scheduler(max_waiting=max_waiting)
        self.worked_at = float("-inf")  # when the model last gave a result, by time.monotonic()
        self._engine = type(reranker)(model, replace(reranker.options, long_queries="truncate")).engine
        self._classifier = ZeroShotClassifier(model, reranker.options).engine
        self._reads_windows = reranker.options.long_passages == "windows"
        self._seconds, self._on_scored = seconds, on_scored

    async def rerank(self, query: str, passages: Sequence[str], client: Hashable = None) -> list[PassageLogits]:
        """The model's result for each passage.

        Args:
            query: The query.
            passages: The passages.
            client: Who waits for it.

        Raises:
            ClosedError: The server is stopping.
            OverloadedError: Too many passages are waiting.
            ValueError: The query has no token.
        """
        items = [self._item(LabelledPassage((query,), passage)) for passage in passages]
        return await self._run(self._score_passages, items, client)

    async def classify(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        threshold: float | None,
        single_label: bool = False,
        prompt: str = "",
        client: Hashable = None,
    ) -> tuple[list[list[Prediction]], list[int]]:
        """What ``ZeroShotClassifier`` returns, computed in pieces; and the indexes of the texts that were cut.

        Args:
            texts: The texts.
            labels: The labels, at least one.
            threshold: Return labels with at least this score; None for all.
            single_label: Whether to return only the best label of each text.
            prompt: A description of the task.
            client: Who waits for it.

        Raises:
            ClosedError: The server is stopping.
            OverloadedError: Too many passages are waiting.
            ValueError: There is no label, or a label leaves the text no room.
        """
        if not labels:
            raise ValueError("labels is empty; expected at least one label.")
        size = sum(map(len, labels))
        [groups] = await self._run(self._group_labels, [Item((tuple(labels), prompt), size)], client)
        wholes = [LabelledPassage(tuple(labels), text, task=prompt) for text in texts]
        fits = [True] * len(texts)
        if len(groups) > 1:
            fits = await self._run(self._classifier.fits, [*map(self._item, wholes)], client)
        pairs = [
            [whole] if fit else [LabelledPassage(group, whole.text, task=prompt) for group in groups]
            for whole, fit in zip(wholes, fits, strict=True)
        ]
        items = [self._item(pair) for text_pairs in pairs for pair in text_pairs]
        remaining = iter(await self._run(self._score_labels, items, client))
        results = [[next(remaining) for _ in text_pairs] for text_pairs in pairs]
        cut = [i for i, text_results in enumerate(results) if any(result.truncated for result in text_results)]
        rows = [[logit for result in text_results for logit in result.logits] for text_results in results]
        kind: ClassificationType = "single-label" if single_label else "multi-label"
        scores = [softmax(row) if single_label else list(map(sigmoid, row)) for row in rows]
        return [choose_labels(labels, text_scores, threshold, kind) for text_scores in scores], cut

    async def probe(self) -> None:
        """Make a forward pass, to see whether the model works."""
        await self.rerank("ready", ["ready"])

    def close(self, *, seconds: float) -> bool:
        """Stop the scheduler; see ``Scheduler.close``."""
        return self.scheduler.close(seconds=seconds)

    async def _run(self, score: Score, items: Sequence[Item], client: Hashable) -> list[Any]:
        return await self.scheduler.run(score, items, client=client, seconds=self._seconds)

    def _item(self, pair: LabelledPassage) -> Item:
        """A pair with its cost in tokens, estimated from its first characters, and its places in the queue."""
        end = None if self._reads_windows else self._engine.max_length * 8
        size = sum(map(_count_bytes, pair.labels)) + _count_bytes(pair.text[:end])
        cost = _PROMPT_TOKENS + size / _BYTES_PER_TOKEN
        if not self._reads_windows:
            cost = min(cost, self._engine.max_length)
        return Item(pair, cost, 1 + len(pair.text) // _CHARACTERS_PER_PLACE)

    # In the model's thread. Methods, since jobs whose functions are equal share pieces.

    def _score_passages(self, pairs: list[LabelledPassage]) -> list[PassageLogits]:
        return self._score(self._engine, pairs)

    def _score_labels(self, pairs: list[LabelledPassage]) -> list[PassageLogits]:
        return self._score(self._classifier, pairs)

    def _score(self, engine: PassageScorer, pairs: list[LabelledPassage]) -> list[PassageLogits]:
        results = engine.score(pairs)
        self.worked_at = time.monotonic()
        self._on_scored(len(results))
        return results

    def _group_labels(self, requests: list[tuple[tuple[str, ...], str]]) -> list[Any]:
        return [self._classifier.group_labels(labels, task=prompt) for labels, prompt in requests]


def _count_bytes(text: str) -> int:
    """Bytes of a text: tokens per byte vary less between scripts than tokens per character."""
    return len(text.encode("utf-8", "surrogatepass"))
