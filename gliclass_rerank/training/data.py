"""Questions and passages become groups: some passages, some questions, and who answers whom.

A group is what the model is trained on at a time. All its passages get the same labels, so the
loss can compare labels within a passage as well as passages under a label, which is what
reranking does.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from gliclass_rerank.keyword_index import KeywordIndex
from gliclass_rerank.training.teacher import Teacher

_PASSAGES = 6  # of a group at most, a near miss aside
_MOST_QUESTIONS = 6  # of a group
_CANDIDATES = 24  # hits of BM25, and of the teacher, from which hard negatives are drawn
_MOST_WORDS = 150  # of a passage; longer ones are cropped around the answer
_FEWEST_WORDS = 30  # of a crop
_QUESTION_WORDS = 60  # of a group's questions together, so that room for the passage is left
_QUESTION_KINDS = ("what", "who", "when", "where", "which", "why", "how")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a collection."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the positions of the passages that answer it, and the answers' words if known."""

    text: str
    passages: tuple[int, ...]
    answers: tuple[str, ...]
    collection: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Passages and questions, and what is known of passage p and question q.

    ``targets[p][q]`` is 1 where p answers q; ``similarities[p][q]`` is what the teacher finds, if there is one.
    """

    passages: list[str]
    questions: list[str]
    targets: list[list[int]]
    similarities: list[list[float]] | None


def read_collection(folder: str | os.PathLike[str], split: str = "train") -> tuple[list[Passage], list[Question]]:
    """Read a collection in BEIR layout (corpus.jsonl, queries.jsonl, qrels/<split>.tsv).

    Args:
        folder: The collection.
        split: Which qrels.

    Returns:
        Passages, and one question for each query with passages of positive relevance.

    Raises:
        OSError: A file is missing.
        ValueError: A line is not JSON, or the qrels name an unknown id.

    Example:
        >>> passages, questions = read_collection("squad_train")  # doctest: +SKIP
    """
    folder = Path(folder)
    rows = _read_jsonl(folder / "corpus.jsonl")
    place = {row["_id"]: i for i, row in enumerate(rows)}
    queries = {row["_id"]: row for row in _read_jsonl(folder / "queries.jsonl")}
    answering: dict[str, list[int]] = defaultdict(list)
    lines = (folder / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    for line in lines:
        query_id, passage_id, relevance = line.split("\t")
        if query_id not in queries or passage_id not in place:
            raise ValueError(f"{folder}: qrels name {query_id!r} and {passage_id!r}, at least one of them unknown.")
        if float(relevance) > 0:
            answering[query_id].append(place[passage_id])
    questions = []
    for query_id, positions in answering.items():
        answers = tuple(answer.lower() for answer in queries[query_id].get("answers", ()) if answer)
        questions.append(Question(queries[query_id]["text"], tuple(positions), answers, folder.name))
    return [Passage(row.get("title") or "", row["text"]) for row in rows], questions


def _read_jsonl(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class GroupSampler:
    """Draws groups from collections.

    Half the groups hold a single question, the way the model is used; the others up to six. A
    group's passages are the one that answers its first question, four hard negatives among BM25's
    hits that do not contain the answer (with a teacher, two of them among its hits), and a sibling
    from the same title or any passage; fewer where nearly all passages contain the answer. To half
    the groups comes a near miss: a stretch of the answering passage without the answer's words.

    Args:
        passages: All passages.
        questions: All questions; their ``passages`` are positions in ``passages``.
        teacher: Its vectors are in the same order as these.

    Raises:
        ValueError: There is no question.
    """

    def __init__(
        self, passages: Sequence[Passage], questions: Sequence[Question], teacher: Teacher | None = None
    ) -> None:
        if not questions:
            raise ValueError("there is no question with a passage that answers it.")
        self._passages, self._questions, self._teacher = passages, questions, teacher
        self._place = {question: i for i, question in enumerate(questions)}
        self._by_passage: dict[int, list[Question]] = defaultdict(list)
        for question in questions:
            for position in question.passages:
                self._by_passage[position].append(question)
        self._by_title: dict[str, list[int]] = defaultdict(list)
        for i, passage in enumerate(passages):
            self._by_title[passage.title].append(i)
        self._index = KeywordIndex(f"{passage.title} {passage.text}" for passage in passages)
        kinds = [(question.collection, _kind(question.text)) for question in questions]
        sizes = Counter(kinds)
        self._weights = list(accumulate(sizes[kind] ** -0.5 for kind in kinds))

    def draw(self, rng: random.Random) -> int:
        """Choose a question; of a small collection, and of a rare kind (why, how), each is chosen more often.

        Args:
            rng: Decides which.

        Returns:
            Its position in the questions.
        """
        return rng.choices(range(len(self._questions)), cum_weights=self._weights)[0]

    def sample(self, question: int, rng: random.Random) -> Group:
        """Build a group around one question.

        Args:
            question: Its position in the questions.
            rng: Decides everything that is drawn.
        """
        first = self._questions[question]
        answering = rng.choice(first.passages)
        chosen = [answering, *self._negatives(first, rng)]
        questions = [first]
        if rng.random() < 0.5:
            others = [q for i in chosen for q in self._by_passage[i]] + rng.choices(self._questions, k=2)
            # Left out are those that a passage seems to answer without being marked so.
            fair = [q for q in dict.fromkeys(others) if q is not first and self._is_fair(q, chosen)]
            questions += rng.sample(fair, min(len(fair), rng.randint(1, _MOST_QUESTIONS - 1)))
        while len(questions) > 1 and sum(len(q.text.split()) for q in questions) > _QUESTION_WORDS:
            questions.pop()
        rng.shuffle(questions)
        crops = [self._crop(i, first if i == answering else None, rng) for i in chosen]
        if first.answers and rng.random() < 0.5:
            near_miss = self._near_miss(answering, first, rng)
            if near_miss:
                chosen.append(answering)
                crops.append(near_miss)
        targets = [
            [int(i in q.passages and _holds(crop, q)) for q in questions] for i, crop in zip(chosen, crops, strict=True)
        ]
        titles = (self._passages[i].title if rng.random() < 0.7 else "" for i in chosen)
        texts = [f"{title} {crop}".strip() for title, crop in zip(titles, crops, strict=True)]
        similarities = None
        if self._teacher:
            # Of whole passages: a near miss is drawn to the second place, in front of other passages.
            similarities = self._teacher.similarities(chosen, [self._place[q] for q in questions])
        return Group(texts, [_vary(q.text, rng) for q in questions], targets, similarities)

    def _is_fair(self, question: Question, passages: Sequence[int]) -> bool:
        return all(i in question.passages or not self._answers(question, i) for i in passages)

    def _negatives(self, question: Question, rng: random.Random) -> list[int]:
        found = [self._index.search(question.text, top_k=_CANDIDATES)]
        if self._teacher:
            found.append(self._teacher.nearest(self._place[question], _CANDIDATES))
        hard: list[int] = []
        for hits in found:
            wrong = [i for i in hits if i not in hard and not self._answers(question, i)]
            hard += rng.sample(wrong, min((_PASSAGES - 2) // len(found), len(wrong)))
        siblings = self._by_title[self._passages[question.passages[0]].title]
        # A few tries each: where the answer is a common word, nearly every passage holds it.
        drawn = rng.choices(siblings, k=2) + rng.choices(range(len(self._passages)), k=_PASSAGES * 4)
        if self._teacher and rng.random() < 0.5:
            drawn.reverse()
        others = (i for i in dict.fromkeys(drawn) if i not in hard and not self._answers(question, i))
        return hard + list(islice(others, _PASSAGES - 1 - len(hard)))

    def _answers(self, question: Question, passage: int) -> bool:
        """Whether a passage answers a question, as far as anyone can tell."""
        text = self._passages[passage].text.lower()
        return passage in question.passages or any(answer in text for answer in question.answers)

    def _crop(self, passage: int, question: Question | None, rng: random.Random) -> str:
        """A stretch of a passage; one that holds an answer of the question, where that can be had."""
        crops = _crops(self._passages[passage].text, rng.randint(_FEWEST_WORDS, _MOST_WORDS), rng)
        return next((crop for crop in crops if question and _holds(crop, question)), crops[0])

    def _near_miss(self, passage: int, question: Question, rng: random.Random) -> str | None:
        """A stretch of a passage without any answer of the question, where that can be had."""
        crops = _crops(self._passages[passage].text, rng.randint(_FEWEST_WORDS, _MOST_WORDS // 2), rng)
        return next((crop for crop in crops if not _holds(crop, question)), None)


def _crops(text: str, size: int, rng: random.Random) -> list[str]:
    """Stretches of ``size`` words that cover a text, in random order; the text itself if it is no longer."""
    words = text.split()
    last = len(words) - size
    if last <= 0:
        return [text]
    starts = [*range(0, last, max(1, size // 8)), last]
    rng.shuffle(starts)
    return [" ".join(words[start : start + size]) for start in starts]


def _holds(text: str, question: Question) -> bool:
    """Whether a text holds an answer of the question, as far as its words are known."""
    return not question.answers or any(answer in text.lower() for answer in question.answers)


def _kind(question: str) -> str:
    first = question.lower().split(maxsplit=1)[:1]
    return first[0] if first and first[0] in _QUESTION_KINDS else "other"


def _vary(question: str, rng: random.Random) -> str:
    """Write some questions as people type them: in lower case and without the question mark."""
    question = " ".join(question.split()[:_QUESTION_WORDS])
    typed = question.lower().rstrip(" ?")
    return typed if typed and rng.random() < 0.3 else question
