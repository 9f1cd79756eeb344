"""Held-out questions: how well a model ranks them, which of its states does so best, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.evaluation.measures import measure
from gliclass_rerank.training.data import Question, TrainingData
from gliclass_rerank.training.negatives import HardNegatives

DEV_MEASURE = "dev_ndcg@10"
_MEASURE = "nDCG@10"
_QUESTIONS = 100  # at most
_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Ranking:
    """A question, its candidate passages, and the positions of those that answer it."""

    question: str
    passages: list[str]
    relevant: list[int]


@dataclass(frozen=True, slots=True)
class DevScores:
    """nDCG@10 on the held-out questions, by step, in order; the start's is that of step 0.

    Example:
        >>> scores = DevScores({0: 0.5, 10: 0.7, 20: 0.6, 30: 0.7})
        >>> scores.best_step, scores.has_improved, scores.states_without_gain
        (30, True, 2)
    """

    by_step: dict[int, float]

    @classmethod
    def from_history(cls, history: Iterable[Mapping[str, float]]) -> DevScores:
        """Pick the scores out of what Trainer logged, which it saves with each state."""
        return cls({int(line["step"]): line[DEV_MEASURE] for line in history if DEV_MEASURE in line})

    @property
    def best_step(self) -> int:
        """The step with the highest score; among equal ones the last, whose state has learned most."""
        return max(self.by_step, key=lambda step: (self.by_step[step], step))

    @property
    def has_improved(self) -> bool:
        """Whether any state ranks better than the start, or the start's score is unknown."""
        return max(self.by_step.values()) > self.by_step.get(0, -1)

    @property
    def states_without_gain(self) -> int:
        """How many states in a row, up to the last, are no better than the best before them."""
        scores = list(self.by_step.values())
        return len(scores) - 1 - scores.index(max(scores))


def dev_rankings(data: TrainingData, questions: Sequence[Question], negatives: HardNegatives) -> list[Ranking]:
    """Some questions with BM25's hits and, should it miss them, the passages that answer.

    Args:
        data: The passages.
        questions: Up to a hundred of them are chosen, evenly.
        negatives: Searches the passages.
    """
    rankings = []
    for question in questions[:: -(-len(questions) // _QUESTIONS) or 1]:
        chosen = list(dict.fromkeys([*negatives.search(question.text, _CANDIDATES), *question.passages]))
        relevant = [i for i, position in enumerate(chosen) if position in question.passages]
        rankings.append(Ranking(question.text, [data.passages[i].whole for i in chosen], relevant))
    return rankings


def mean_ndcg(rankings: Iterable[Ranking], score: Callable[[str, Sequence[str]], Sequence[float]]) -> float:
    """Rank candidates; returns the mean nDCG@10.

    Args:
        rankings: At least one.
        score: Scores a question against passages.

    Example:
        >>> mean_ndcg([Ranking("cats?", ["Dogs bark.", "Cats purr."], [1])], lambda question, passages: [0.1, 0.9])
        1.0
    """
    qrels, ranked = {}, {}
    for number, ranking in enumerate(rankings):
        scores = score(ranking.question, ranking.passages)
        qrels[str(number)] = {str(i): 1 for i in ranking.relevant}
        ranked[str(number)] = [str(i) for i in sorted(range(len(scores)), key=lambda i: -scores[i])]
    values = measure(qrels, ranked)[_MEASURE]
    return sum(values) / len(values)


class BestState(TrainerCallback):
    """Writes the trained weights whenever the dev score is the best so far, and stops when it no longer rises.

    It remembers nothing: Trainer's history has the scores, and a run that goes on gets it back.

    Args:
        model: What is trained.
        folder: Where the weights are written.
        patience: See ``TrainingSettings``.
    """

    def __init__(self, model: nn.Module, folder: Path, patience: int) -> None:
        self._model, self._folder, self._patience = model, folder, patience

    def load(self, step: int) -> None:
        """Give the model the weights of the best state."""
        self._model.load_state_dict(load_file(self._file(step)), strict=False)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Write the weights if they are the best, or stop."""
        scores = DevScores.from_history(state.log_history)
        if scores.best_step == state.global_step:
            weights = {k: p.detach().cpu().contiguous() for k, p in self._model.named_parameters() if p.requires_grad}
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._file(state.global_step)) as unfinished:
                save_file(weights, unfinished)
        control.should_training_stop |= bool(self._patience) and scores.states_without_gain >= self._patience

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - as Trainer's
    ) -> None:
        """Remove older weights; before this, a stopped run might still go on from a state at which they were best."""
        scores = DevScores.from_history(state.log_history)
        for file in self._folder.glob(self._file("*").name):
            if scores.by_step and file != self._file(scores.best_step):
                file.unlink()

    def _file(self, step: int | str) -> Path:
        return self._folder / f"best-{step}.safetensors"
