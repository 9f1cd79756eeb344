"""Hard negatives: passages that look like answers and are none.

BM25 finds them by words, a teacher by meaning, and the model itself says, while it is trained,
which of them still mislead it.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, zip_longest
from pathlib import Path

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.data.bm25 import KeywordIndex
from gliclass_rerank.data.progress import progress
from gliclass_rerank.training.data import TrainingData
from gliclass_rerank.training.teacher import Teacher

_NEAREST = 12  # hits of BM25, and of the teacher, from which hard negatives are drawn
_CANDIDATES = 12  # of either, among which the model says what misleads it
_MISLEADING = 8  # of them are kept


class HardNegatives:
    """Finds passages that are like the answer to a question, but do not answer it.

    Args:
        data: Passages and questions.
        teacher: Its vectors are in the same order as these.

    Attributes:
        mined: Of each question for which the model was asked, the passages that mislead it most.
    """

    def __init__(self, data: TrainingData, teacher: Teacher | None = None) -> None:
        self._data, self._teacher = data, teacher
        self._index = KeywordIndex(passage.whole for passage in data.passages)
        self._by_title: dict[str, list[int]] = defaultdict(list)
        for i, passage in enumerate(data.passages):
            self._by_title[passage.title].append(i)
        self.mined: dict[int, list[int]] = {}

    def draw(self, question: int, hard: int, count: int, rng: random.Random) -> list[int]:
        """Draw passages that do not answer a question.

        Args:
            question: Its position in the data.
            hard: How many hard negatives at most; they come first, in turn a given one (if there
                are any) and a found one.
            count: How many passages in all at most, the others being siblings of the answering
                passage (of the same title) and any passages.
            rng: Decides which.

        Returns:
            Positions of passages, fewer than ``count`` where nearly all seem to answer.
        """
        chosen = self._in_turn(question, [rng.sample(hits, len(hits)) for hits in self._finds(question)], hard)
        siblings = self._by_title[self._data.passages[self._data.questions[question].passages[0]].title]
        # A few tries each: where the answer is a common word, nearly every passage holds it.
        drawn = rng.choices(siblings, k=2) + rng.choices(range(len(self._data.passages)), k=count * 4)
        if rng.random() < 0.25:
            drawn.reverse()
        others = (i for i in dict.fromkeys(drawn) if i not in chosen and self._is_wrong(question, i))
        return chosen + list(islice(others, count - len(chosen)))

    def hardest(self, question: int, count: int) -> list[int]:
        """The first hard negatives of a question, in turn a given one and a searched or mined one.

        Args:
            question: Its position in the data.
            count: How many at most.
        """
        return self._in_turn(question, self._finds(question), count)

    def search(self, query: str, top_k: int) -> list[int]:
        """BM25's first hits for a query, best first."""
        return self._index.search(query, top_k=top_k)

    def mine(self, questions: Iterable[int], score: Callable[[str, Sequence[str]], Sequence[float]]) -> None:
        """Let the model say which candidates mislead it; from now on these are drawn for these questions.

        Args:
            questions: Positions of questions.
            score: Scores a question against passages, as the model does now.
        """
        for question in questions:
            hits = dict.fromkeys(i for hits in self._searched(question, _CANDIDATES) for i in hits)
            candidates = [i for i in hits if self._is_wrong(question, i)]
            if not candidates:
                continue
            scores = score(self._data.questions[question].text, [self._data.passages[i].whole for i in candidates])
            order = sorted(range(len(candidates)), key=lambda i: -scores[i])
            self.mined[question] = [candidates[i] for i in order[:_MISLEADING]]

    def answers(self, question: int, passage: int) -> bool:
        """Whether a passage answers a question, as far as anyone can tell."""
        the_question = self._data.questions[question]
        return passage in the_question.passages or the_question.is_named_in(self._data.passages[passage].whole)

    def _in_turn(self, question: int, hit_lists: Iterable[Sequence[int]], count: int) -> list[int]:
        """The first hits of each list, then the second ones and so on, as far as they do not answer the question."""
        in_turn = dict.fromkeys(i for turn in zip_longest(*hit_lists) for i in turn if i is not None)
        return list(islice((i for i in in_turn if self._is_wrong(question, i)), count))

    def _is_wrong(self, question: int, passage: int) -> bool:
        return not self.answers(question, passage) and not self._may_answer(question, passage)

    def _may_answer(self, question: int, passage: int) -> bool:
        """Whether the teacher likes a passage better than the marked answer, and no known words say otherwise."""
        the_question = self._data.questions[question]
        if self._teacher is None or the_question.answers or passage in the_question.negatives:
            return False
        [marked], [other] = self._teacher.similarities([the_question.passages[0], passage], [question])
        return other > marked

    def _finds(self, question: int) -> list[Sequence[int]]:
        misleading = self.mined.get(question)
        hit_lists: list[Sequence[int]] = [misleading] if misleading else self._searched(question, _NEAREST)
        given = self._data.questions[question].negatives
        return [given, *hit_lists] if given else hit_lists

    def _searched(self, question: int, top_k: int) -> list[Sequence[int]]:
        hits: list[Sequence[int]] = [self.search(self._data.questions[question].text, top_k)]
        if self._teacher:
            hits.append(self._teacher.nearest(question, top_k))
        return hits


def write_negatives(path: Path, data: TrainingData, negatives: HardNegatives, count: int = _MISLEADING) -> None:
    r"""Write each question with its passages and hard negatives as a line of JSON, which training reads too.

    Args:
        path: The file; its folder is made if absent.
        data: The questions.
        negatives: Made from the same data.
        count: Negatives of a question at most.

    Raises:
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from gliclass_rerank.training.data import Passage, Question
        >>> passages = [Passage("", "Cats purr."), Passage("", "Cats sleep.")]
        >>> data = TrainingData(passages, [Question("do cats purr?", (0,))])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_negatives(Path(folder) / "n.jsonl", data, HardNegatives(data))
        ...     (Path(folder) / "n.jsonl").read_text()
        '{"query": "do cats purr?", "positives": ["Cats purr."], "negatives": ["Cats sleep."]}\n'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for i, question in enumerate(progress(data.questions, "writing hard negatives")):
            positives, hard = (
                [data.passages[position].whole for position in positions]
                for positions in (question.passages, negatives.hardest(i, count))
            )
            file.write(json.dumps({"query": question.text, "positives": positives, "negatives": hard}) + "\n")
