"""Rerank and classify through the scheduler: requests become items that the engine scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from gliclass_rerank.classifier import ClassificationType, Prediction, choose_labels, join_logits, score_labels
from gliclass_rerank.engine.passages import LabelledPassage, PassageLogits, PassageScorer
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
        self._classifier = PassageScorer(
            model,
            max_length=reranker.options.max_length,
            token_budget=reranker.options.token_budget,
            noun="label",
            scores_empty=True,
        )
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
        pairs = [LabelledPassage((query,), passage) for passage in passages]
        items = [self._item(pair, reads_all=self._reads_windows) for pair in pairs]
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
        pairs = [LabelledPassage(tuple(labels), text, task=prompt) for text in texts]
        shares = await self._run(self._classifier.share_labels, [*map(self._item, pairs)], client)
        items = [self._item(pair) for text_pairs in shares for pair in text_pairs]
        rows, cut = join_logits(shares, await self._run(self._score_labels, items, client))
        kind: ClassificationType = "single-label" if single_label else "multi-label"
        return [choose_labels(labels, score_labels(row, kind), threshold, kind) for row in rows], cut

    async def probe(self) -> None:
        """Make a forward pass, to see whether the model works."""
        await self.rerank("ready", ["ready"])

    def close(self, *, seconds: float) -> bool:
        """Stop the scheduler; see ``Scheduler.close``."""
        return self.scheduler.close(seconds=seconds)

    async def _run(self, score: Score, items: Sequence[Item], client: Hashable) -> list[Any]:
        return await self.scheduler.run(score, items, client=client, seconds=self._seconds)

    def _item(self, pair: LabelledPassage, *, reads_all: bool = False) -> Item:
        """A pair with its cost in tokens, estimated from the characters that are read, and its places in the queue."""
        max_length = self._engine.max_length
        text = pair.text if reads_all else pair.text[: max_length * 8]
        cost = _PROMPT_TOKENS + sum(map(_count_bytes, (*pair.labels, text))) / _BYTES_PER_TOKEN
        return Item(pair, cost if reads_all else min(cost, max_length), 1 + len(pair.text) // _CHARACTERS_PER_PLACE)

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


def _count_bytes(text: str) -> int:
    """Bytes of a text: tokens per byte vary less between scripts than tokens per character."""
    return len(text.encode("utf-8", "surrogatepass"))
