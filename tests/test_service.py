"""What the server's scoring service tells the scheduler and the model."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.scheduler import Item, Scheduler, Score
from gliclass_rerank.serving.service import ScoringService

TEXTS = ["The match ended in a draw. " * 400, "Stir the soup."]
LABELS = ["sports", "cooking"]


class Recorder:
    """A scorer that does another's work, and remembers the token budgets."""

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.budgets = scorer, set[int | None]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scorer, name)

    def logits(self, prompts: Any, *, token_budget: int | None = None) -> Any:
        self.budgets.add(token_budget)
        return self.scorer.logits(prompts, token_budget=token_budget)


class RecordingScheduler(Scheduler):
    """A scheduler that remembers the items."""

    def __init__(self) -> None:
        super().__init__(max_waiting=1000)
        self.items: list[Item] = []

    async def run(
        self, score: Score, items: Sequence[Item], *, client: Hashable = None, seconds: float | None = None
    ) -> list[Any]:
        self.items += items
        return await super().run(score, items, client=client, seconds=seconds)


def test_the_token_budget_holds_for_reranking_and_classification(bundled: GLiClassReranker) -> None:
    recorder: Any = Recorder(bundled.engine.model.scorer)
    model = replace(bundled.engine.model, scorer=recorder)
    service = ScoringService(GLiClassReranker(model, replace(bundled.options, token_budget=64)), max_waiting=1000)
    asyncio.run(service.rerank("sports", TEXTS))
    assert recorder.budgets == {64}
    recorder.budgets.clear()
    asyncio.run(service.classify(TEXTS, LABELS, threshold=0.5))
    assert recorder.budgets == {64}
    assert service.close(seconds=30)


def test_a_text_to_classify_costs_no_more_than_what_is_read_of_it(bundled: GLiClassReranker) -> None:
    windows = GLiClassReranker(bundled.engine.model, replace(bundled.options, long_passages="windows"))
    service = ScoringService(windows, max_waiting=1000)
    assert service.close(seconds=30)
    service.scheduler = recording = RecordingScheduler()
    asyncio.run(service.classify(TEXTS, LABELS, threshold=0.5))
    assert 0 < max(item.cost for item in recording.items) <= windows.max_length
    asyncio.run(service.rerank("sports", TEXTS))
    assert max(item.cost for item in recording.items) > 2 * windows.max_length  # all of its windows
    assert service.close(seconds=30)
