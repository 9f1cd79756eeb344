"""Draw groups from training data: some passages, some questions, and which passage answers which question.

The loss is computed for one group at a time. All passages of a group get the same labels, so the loss can compare the
labels of one passage, and also the passages for one label, which is what reranking does.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

from gliclass_rerank.training.data import ANSWERS_FROM, LabelledText, Question, TrainingData
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.teacher import Teacher
from gliclass_rerank.training.wording import crop, empty_text, vary

_PASSAGES = 6  # the most passages of a group, not counting a near miss
_HARD = 4  # how many of them are hard negatives
_MAX_QUESTIONS = 8  # the most questions of a group
_MULTI_QUERY_SHARE = 0.15
_MIN_EXTRA_QUESTIONS = 2
_STRANGERS = 2  # how many randomly chosen questions may be among the extra ones
_NEAR_MISS_SHARE = 0.5
_TITLE_SHARE = 0.7
_MAX_LABELS = (8, 32)  # the most labels of a text: usually the first limit, sometimes the second
_STATEMENT_WORDS = (4, 160)
_STATEMENT_PASSAGES = 6
_EMPTY_GAP = 0.12  # how far the cosine of a text that says nothing is below the smallest of the other passages
_MENU_WORDS = 6  # the most words of a title that may stand in a made-up menu
_QUESTION_KINDS = ("what", "who", "when", "where", "which", "why", "how")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """Passages and questions, and what is known about each passage p and question q.

    Attributes:
        passages: The passages.
        questions: The questions, or a text's labels.
        targets: ``targets[p][q]`` says how well p answers q, from 0 to 1; -1 if that is unknown.
        similarities: ``similarities[p][q]`` is the teacher's cosine, if there is a teacher.
        answers: ``answers[p][q]`` are the words in p that answer q, if they are known.
        teacher_scores: ``teacher_scores[p][q]`` is a teacher's logit, if the data has it.
    """

    passages: list[str]
    questions: list[str]
    targets: list[list[float]]
    similarities: list[list[float]] | None = None
    answers: list[list[tuple[str, ...]]] | None = None
    teacher_scores: list[list[float]] | None = None

    def with_questions(self, order: Sequence[int]) -> Group:
        """Return a group with the same passages, and with the questions at these positions, in this order."""
        return Group(
            self.passages,
            [self.questions[i] for i in order],
            _pick(self.targets, order),
            self.similarities and _pick(self.similarities, order),
            self.answers and _pick(self.answers, order),
            self.teacher_scores and _pick(self.teacher_scores, order),
        )


@dataclass(frozen=True, slots=True)
class _Excerpt:
    """What a group shows of a passage: all of it, or a stretch."""

    passage: int
    text: str


class GroupSampler:
    """Draws groups from training data. The same seed and number always give the same group.

    A question group is built around one question. Most of these groups have only that question, as when the model is
    used; the others have up to eight, mostly three or more, which take little more time than one. The passages are
    one that answers the question, four hard negatives, and another passage, with the same title or any. If the
    words of the answers are known, passages are cropped, and half of the groups also get a near miss: a stretch
    of the answering passage that does not contain the answer. If other passages answer the question better or
    worse, one of them replaces a hard negative. If the data has a teacher's scores for the question's passages,
    the group has only that question and those passages, uncropped.

    A text group has one labelled text, with some of its labels and sometimes some labels of another text.

    Args:
        data: The data to draw from.
        negatives: Finds hard negatives; made from the same data.
        teacher: Its vectors are in the same order as the data.
        multi_query_share: Share of the question groups that have several questions, in [0, 1].
        text_share: Share of text groups among all groups, in [0, 1]; None to weigh the texts of a source
            by the square root of their number, as questions are weighed.
        statement_share: Share of the question groups whose query is instead a stretch of a passage, with only the
            teacher's similarities as targets, in [0, 1]. Such queries are long, and few collections have long ones.
        empty_share: Share of the question groups that get a passage that says nothing, in [0, 1].
        crop_words: The fewest and the most words of a cropped passage.
        question_words: The most words of a group's questions together, so that there is room for the passage.
        seed: Decides everything that is drawn at random.

    Example:
        >>> from gliclass_rerank.training.data import Passage
        >>> data = TrainingData([Passage("", "Cats purr."), Passage("", "Dogs bark.")], [Question("what purrs?", (0,))])
        >>> group = GroupSampler(data, HardNegatives(data)).sample(0)
        >>> group.passages, group.targets
        (['Cats purr.', 'Dogs bark.'], [[1], [0]])
    """

    def __init__(
        self,
        data: TrainingData,
        negatives: HardNegatives,
        teacher: Teacher | None = None,
        *,
        multi_query_share: float = _MULTI_QUERY_SHARE,
        text_share: float | None = None,
        statement_share: float = 0.0,
        empty_share: float = 0.0,
        crop_words: tuple[int, int] = (30, 150),
        question_words: int = 80,
        seed: int = 0,
    ) -> None:
        self._data, self._negatives, self._teacher, self._seed = data, negatives, teacher, seed
        self._multi_query_share = multi_query_share
        self._crop_words, self._question_words = crop_words, question_words
        self._statement_share, self._empty_share = statement_share, empty_share
        self._by_passage: dict[int, list[int]] = defaultdict(list)
        for i, question in enumerate(data.questions):
            for position in question.passages:
                self._by_passage[position].append(i)
        self._weights = list(accumulate(_draw_weights(data, text_share)))
        titles = dict.fromkeys(passage.title for passage in data.passages)
        self._titles = [title for title in titles if 0 < len(title.split()) <= _MENU_WORDS]

    def question_of(self, number: int) -> int | None:
        """Return the position of the question that a group is built around; None for a text group."""
        drawn = self._draw(self._rng(number))
        return drawn if drawn < len(self._data.questions) else None

    def sample(self, number: int) -> Group:
        """Build a group.

        Args:
            number: The group's number; together with the seed it decides everything that is drawn at random.
        """
        rng = self._rng(number)
        drawn = self._draw(rng)
        if drawn < len(self._data.questions):
            return self._around_question(drawn, rng)
        return self._around_text(self._data.texts[drawn - len(self._data.questions)], rng)

    def _rng(self, number: int) -> random.Random:
        return random.Random(f"{self._seed}-{number}")

    def _draw(self, rng: random.Random) -> int:
        return rng.choices(range(len(self._weights)), cum_weights=self._weights)[0]

    def _around_question(self, number: int, rng: random.Random) -> Group:
        first = self._data.questions[number]
        answering = rng.choice(first.passages)
        if self._teacher and rng.random() < self._statement_share:
            return self._around_statement(answering, rng)
        if any(i in first.teacher_scores for i in first.negatives):
            return self._around_scored_question(number, rng)
        passages = self._draw_passages(number, answering, rng)
        numbers = self._draw_questions(number, passages, rng)
        is_cropped = self._answers_are_known(numbers, passages)
        # Otherwise crop none: a crop might lack the answer, and if only others were cropped, length would reveal it.
        excerpts = self._crop_all(first, answering, passages, rng) if is_cropped else self._whole(passages)
        group = self._make_group(numbers, excerpts, is_cropped, rng)
        return self._vary(self._with_empty_text(group, rng), rng)

    def _around_scored_question(self, number: int, rng: random.Random) -> Group:
        """Build a group of a question and passages for which the data has a teacher's scores."""
        question = self._data.questions[number]
        scores = question.teacher_scores
        answering, others = ([i for i in group if i in scores] for group in (question.passages, question.negatives))
        chosen = [rng.choice(answering), *rng.sample(others, min(len(others), _PASSAGES - 1))]
        group = self._make_group([number], self._whole(chosen), False, rng)
        return self._vary(replace(group, teacher_scores=[[scores[i]] for i in chosen]), rng)

    def _around_statement(self, source: int, rng: random.Random) -> Group:
        """Build a group whose query is a stretch of a passage; the targets come only from the teacher."""
        assert self._teacher is not None
        like = [i for i in self._teacher.nearest_passages(source, 24) if i != source]
        chosen = rng.sample(like, min(len(like), _STATEMENT_PASSAGES - 2))
        chosen += rng.sample(range(len(self._data.passages)), min(2, len(self._data.passages)))
        chosen = [i for i in dict.fromkeys(chosen) if i != source]
        shortest, longest = _STATEMENT_WORDS
        words = int(shortest * (longest / shortest) ** rng.random())  # short ones as often as long ones
        query = crop(self._data.passages[source].whole, words, rng)[0]
        texts = [self._data.passages[i].whole for i in chosen]
        similarities = self._teacher.passage_similarities(chosen, source)
        return Group(texts, [query], [[-1]] * len(chosen), similarities)

    def _around_text(self, text: LabelledText, rng: random.Random) -> Group:
        """Build a group of a text and some of its labels, sometimes with labels of another text."""
        labels = dict(zip(text.labels, text.targets, strict=True))
        count = rng.randint(1, _MAX_LABELS[rng.random() < 0.4])
        true = [label for label, target in labels.items() if target >= ANSWERS_FROM]
        chosen = rng.sample(sorted(labels), min(len(labels), count))
        if true and rng.random() < 0.9:
            chosen = list(dict.fromkeys([rng.choice(true), *chosen]))
        if rng.random() < 0.3:
            other = rng.choice(self._data.texts)
            chosen += [label for label in other.labels[:2] if label not in labels]
        return _shuffled(Group([text.text], chosen, [[labels.get(label, 0) for label in chosen]]), rng)

    def _draw_passages(self, number: int, answering: int, rng: random.Random) -> list[int]:
        """Draw a group's passages: the answering one, one that answers better or worse if any does, and negatives."""
        question = self._data.questions[number]
        rivals = [i for i in question.passages if question.target(i) != question.target(answering)]
        chosen = [answering, rng.choice(rivals)] if rivals else [answering]
        hard = _HARD + 1 - len(chosen)
        return chosen + self._negatives.draw(number, hard, _PASSAGES - len(chosen), rng)

    def _draw_questions(self, number: int, passages: Sequence[int], rng: random.Random) -> list[int]:
        """Draw a group's questions: the first one, sometimes with others, if they leave room for the passage."""
        numbers = [number]
        if rng.random() < self._multi_query_share:
            numbers += self._extra_questions(number, passages, rng)
        words = accumulate(len(self._data.questions[i].text.split()) for i in numbers)
        return numbers[: max(1, sum(count <= self._question_words for count in words))]

    def _extra_questions(self, number: int, passages: Sequence[int], rng: random.Random) -> list[int]:
        """Draw more questions for a group, about the same passages or any.

        A question is left out if a passage seems to answer it without being marked as its answer.
        """
        others = [q for i in passages for q in self._by_passage[i]]
        others += rng.choices(range(len(self._data.questions)), k=_STRANGERS)
        fair = [q for q in dict.fromkeys(others) if q != number and self._is_fair(q, passages)]
        return rng.sample(fair, min(len(fair), rng.randint(_MIN_EXTRA_QUESTIONS, _MAX_QUESTIONS - 1)))

    def _is_fair(self, question: int, passages: Sequence[int]) -> bool:
        marked = self._data.questions[question].passages
        return all(i in marked or not self._negatives.answers(question, i) for i in passages)

    def _answers_are_known(self, numbers: Sequence[int], passages: Sequence[int]) -> bool:
        """Whether every passage that answers one of the questions contains the words of a known answer."""
        questions = [self._data.questions[i] for i in numbers]
        return all(q.is_named_in(self._data.passages[i].text) for q in questions for i in q.passages if i in passages)

    def _whole(self, passages: Sequence[int]) -> list[_Excerpt]:
        """Return the whole text of each passage."""
        return [_Excerpt(i, self._data.passages[i].text) for i in passages]

    def _crop_all(
        self, question: Question, answering: int, passages: Sequence[int], rng: random.Random
    ) -> list[_Excerpt]:
        """Return a stretch of each passage, and sometimes a near miss."""
        excerpts = [_Excerpt(i, self._crop(i, question if i in question.passages else None, rng)) for i in passages]
        if rng.random() < _NEAR_MISS_SHARE and (text := self._near_miss(answering, question, rng)):
            excerpts.append(_Excerpt(answering, text))
        return excerpts

    def _crop(self, passage: int, question: Question | None, rng: random.Random) -> str:
        """Return a stretch of a passage; if a question is given, one that contains its answer, if possible."""
        stretches = crop(self._data.passages[passage].text, rng.randint(*self._crop_words), rng)
        return next((text for text in stretches if question and question.is_named_in(text)), stretches[0])

    def _near_miss(self, passage: int, question: Question, rng: random.Random) -> str | None:
        """Return a stretch of a passage that does not contain an answer to the question; None if there is none."""
        if question.is_named_in(self._data.passages[passage].title):
            return None
        words = rng.randint(self._crop_words[0], self._crop_words[1] // 2)
        stretches = crop(self._data.passages[passage].text, words, rng)
        return next((text for text in stretches if not question.is_named_in(text)), None)

    def _make_group(
        self, numbers: Sequence[int], excerpts: Sequence[_Excerpt], is_cropped: bool, rng: random.Random
    ) -> Group:
        """Build the group of these questions and excerpts; most excerpts get their title in front."""
        questions = [self._data.questions[i] for i in numbers]
        passages = [excerpt.passage for excerpt in excerpts]
        targets = [[_target(q, excerpt, is_cropped) for q in questions] for excerpt in excerpts]
        titles = [self._data.passages[i].title if rng.random() < _TITLE_SHARE else "" for i in passages]
        texts = [f"{title} {excerpt.text}".strip() for title, excerpt in zip(titles, excerpts, strict=True)]
        answers = [
            [q.answers_in(text) if target else () for q, target in zip(questions, row, strict=True)]
            for text, row in zip(texts, targets, strict=True)
        ]
        # These are of whole passages, so the teacher pulls a near miss to second place, ahead of other passages.
        similarities = self._teacher.similarities(passages, numbers) if self._teacher else None
        return Group(texts, [q.text for q in questions], targets, similarities, answers)

    def _with_empty_text(self, group: Group, rng: random.Random) -> Group:
        """Add a passage that says nothing to some groups."""
        if rng.random() >= self._empty_share:
            return group
        similarities = group.similarities
        if similarities is not None:
            below = [min(column) - _EMPTY_GAP for column in zip(*similarities, strict=True)]
            similarities = [*similarities, below]
        return replace(
            group,
            passages=[*group.passages, empty_text(self._titles, rng)],
            targets=[*group.targets, [0] * len(group.questions)],
            similarities=similarities,
            answers=[*(group.answers or []), [()] * len(group.questions)],
        )

    def _vary(self, group: Group, rng: random.Random) -> Group:
        """Reword some of a group's questions, and shuffle them."""
        questions = [vary(question, rng, self._question_words) for question in group.questions]
        return _shuffled(replace(group, questions=questions), rng)


def _pick(rows: Sequence[Sequence[T]], columns: Sequence[int]) -> list[list[T]]:
    return [[row[i] for i in columns] for row in rows]


def _target(question: Question, excerpt: _Excerpt, is_cropped: bool) -> float:
    """Return how well an excerpt answers a question: not at all if it was cropped and lacks the answer's words."""
    if is_cropped and not question.is_named_in(excerpt.text):
        return 0
    return question.target(excerpt.passage)


def _shuffled(group: Group, rng: random.Random) -> Group:
    """Shuffle a group's questions, so that the model learns nothing from their order."""
    order = list(range(len(group.questions)))
    rng.shuffle(order)
    return group.with_questions(order)


def _draw_weights(data: TrainingData, text_share: float | None) -> list[float]:
    """Return how often each question, and then each text, is drawn.

    Small collections and rare kinds of questions (why, how) are drawn more often than their size suggests.
    """
    kinds = [(q.source, _kind(q.text)) for q in data.questions] + [(t.source, "text") for t in data.texts]
    sizes = Counter(kinds)
    weights: list[float] = [sizes[kind] ** -0.5 for kind in kinds]
    if text_share is None or not data.texts or not data.questions:
        return weights
    count = len(data.questions)
    scale = text_share / (1 - text_share) * sum(weights[:count]) / sum(weights[count:])
    return weights[:count] + [weight * scale for weight in weights[count:]]


def _kind(question: str) -> str:
    first = question.lower().split(maxsplit=1)[:1]
    return first[0] if first and first[0] in _QUESTION_KINDS else "other"
