"""Training data becomes groups: some passages, some questions, and who answers whom.

A group is what the loss sees at a time. All its passages get the same labels, so the loss can
compare labels within a passage as well as passages under a label, which is what reranking does.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from gliclass_rerank.training.data import LabelledText, Question, TrainingData
from gliclass_rerank.training.negatives import HardNegatives
from gliclass_rerank.training.teacher import Teacher

_PASSAGES = 6  # of a group at most, a near miss aside
_HARD = 4  # of them hard negatives
_MAX_QUESTIONS = 8  # of a group
_MULTI_QUERY_SHARE = 0.15
_MIN_COMPANIONS = 2
_STRANGERS = 2  # questions of any passage that may be among the companions
_MAX_LABELS = (8, 32)  # of a classified text: mostly few, sometimes a long list
_STATEMENT_WORDS = (20, 160)
_STATEMENT_PASSAGES = 6
# Texts that say nothing: they must not stand in front of a passage that answers.
_EMPTY_LIKE = (
    "n/a",
    "N/A",
    "-",
    ".",
    "...",
    "TODO",
    "TBD",
    "null",
    "None",
    "See above.",
    "Page not found",
    "404 Not Found",
    "Loading...",
    "Read more",
    "Click here to continue.",
    "Home | About | Products | Contact | Login",
    "Skip to main content. Menu. Search. Close.",
    "We use cookies to improve your experience. Accept all. Manage preferences. Privacy policy.",
    "Copyright. All rights reserved. Terms of use. Privacy.",
    "Subscribe to our newsletter. Enter your email address. Submit.",
    "Table of contents 1 Introduction 2 Background 3 Methods 4 Results 5 Discussion References",
    "Previous page Next page Back to top",
    "This section is intentionally left blank.",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "Share this article: Facebook Twitter LinkedIn Email Print",
)
_QUESTION_KINDS = ("what", "who", "when", "where", "which", "why", "how")
# Left out where a question becomes keywords; only words that no one would search for.
_FUNCTION_WORD = re.compile(
    "a|an|and|are|at|be|by|can|did|do|does|for|from|had|has|have|how|in|is|it|its|of|on|or|should|that|the|their"
    "|there|these|they|this|to|was|were|what|when|where|which|who|whom|whose|why|will|with|would"
)


@dataclass(frozen=True, slots=True)
class Group:
    """Passages and questions, and what is known of passage p and question q.

    ``targets[p][q]`` is 1 where p answers q, 0 where it does not, -1 where nobody knows;
    ``similarities[p][q]`` is the teacher's cosine, if there is a teacher; ``answers[p][q]`` are the words with
    which p answers q, if they are known.
    """

    passages: list[str]
    questions: list[str]
    targets: list[list[int]]
    similarities: list[list[float]] | None = None
    answers: list[list[tuple[str, ...]]] | None = None

    def with_questions(self, order: Sequence[int]) -> Group:
        """The same passages with some of the questions, in some order."""
        return Group(
            self.passages,
            [self.questions[i] for i in order],
            [[row[i] for i in order] for row in self.targets],
            self.similarities and [[row[i] for i in order] for row in self.similarities],
            self.answers and [[row[i] for i in order] for row in self.answers],
        )


class GroupSampler:
    """Draws groups from training data; the same group for the same seed and number.

    A group of a question: most hold it alone, the way the model is used; the others have
    up to eight questions, mostly three or more, which cost little more than one. The passages are one that answers it,
    four hard negatives, and a sibling from the same title or any passage. Where the answers' words
    are known, passages are cropped, and to half of the groups comes a near miss: a stretch of the
    answering passage without the answer's words.

    A group of a text with labels: the text alone, and its labels with some of other texts.

    Args:
        data: What to draw from.
        negatives: Made from the same data.
        teacher: Its vectors are in the data's order.
        multi_query_share: Share of the groups around a question that hold others too, in [0, 1].
        text_share: Share of the groups that hold a text with labels, in [0, 1]; None for the root of their number.
        statement_share: Share of the groups around a question that have a stretch of another passage as the query and
            only the teacher's similarities as targets, in [0, 1]: long queries, which few collections have.
        empty_share: Share of the groups around a question with a passage that says nothing, in [0, 1].
        crop_words: The fewest and the most words of a passage that is cropped around an answer.
        question_words: Words of a group's questions together, so that they leave room for the passage.
        seed: Decides everything that is drawn.

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
        self._text_share, self._statement_share, self._empty_share = text_share, statement_share, empty_share
        self._by_passage: dict[int, list[int]] = defaultdict(list)
        for i, question in enumerate(data.questions):
            for position in question.passages:
                self._by_passage[position].append(i)
        # A small collection, and a rare kind of question (why, how), is drawn more often than its share.
        kinds = [(q.source, _kind(q.text)) for q in data.questions] + [(t.source, "text") for t in data.texts]
        sizes = Counter(kinds)
        weights = [sizes[kind] ** -0.5 for kind in kinds]
        if text_share is not None and data.texts and data.questions:
            count = len(data.questions)
            questions, texts = sum(weights[:count]), sum(weights[count:])
            scale = text_share / (1 - text_share) * questions / texts
            weights = weights[:count] + [weight * scale for weight in weights[count:]]
        self._weights = list(accumulate(weights))

    def question_of(self, number: int) -> int | None:
        """Position of the question that a group is built around; None for a text with labels."""
        drawn = self._draw(self._rng(number))
        return drawn if drawn < len(self._data.questions) else None

    def sample(self, number: int) -> Group:
        """Build a group.

        Args:
            number: Which of them; the seed and this decide all that is drawn.
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
        chosen = [answering, *self._negatives.draw(number, _HARD, _PASSAGES - 1, rng)]
        numbers = [number]
        if rng.random() < self._multi_query_share:
            numbers += self._companions(number, chosen, rng)
        questions = [self._data.questions[i] for i in numbers]
        while len(questions) > 1 and sum(len(q.text.split()) for q in questions) > self._question_words:
            questions.pop()
            numbers.pop()
        answered = [(q, self._data.passages[i].text) for q in questions for i in q.passages if i in chosen]
        cropped = all(q.is_named_in(text) for q, text in answered)
        if cropped:
            crops = [self._crop(i, first if i == answering else None, rng) for i in chosen]
            near_miss = self._near_miss(answering, first, rng) if rng.random() < 0.5 else None
            if near_miss:
                chosen.append(answering)
                crops.append(near_miss)
        else:  # All stay whole: a crop might lack the answer, and where others are shorter, length gives it away.
            crops = [self._data.passages[i].text for i in chosen]
        targets = [
            [int(i in q.passages and (not cropped or q.is_named_in(crop))) for q in questions]
            for i, crop in zip(chosen, crops, strict=True)
        ]
        titles = (self._data.passages[i].title if rng.random() < 0.7 else "" for i in chosen)
        texts = [f"{title} {crop}".strip() for title, crop in zip(titles, crops, strict=True)]
        similarities = None
        if self._teacher:
            # Of whole passages: a near miss is drawn to the second place, in front of other passages.
            similarities = self._teacher.similarities(chosen, numbers)
        if rng.random() < self._empty_share:
            texts.append(rng.choice(_EMPTY_LIKE))
            targets.append([0] * len(questions))
            if similarities is not None:
                similarities.append([min(column) - 0.05 for column in zip(*similarities, strict=True)])
        answers = [
            [q.answers_in(text) if target else () for q, target in zip(questions, row, strict=True)]
            for text, row in zip(texts, targets, strict=True)
        ]
        return _shuffled(
            Group(texts, [vary(q.text, rng, self._question_words) for q in questions], targets, similarities, answers),
            rng,
        )

    def _around_statement(self, source: int, rng: random.Random) -> Group:
        """A stretch of a passage as the query of passages like it; how well they fit, only the teacher says."""
        assert self._teacher is not None
        like = [i for i in self._teacher.nearest_passages(source, 24) if i != source]
        chosen = rng.sample(like, min(len(like), _STATEMENT_PASSAGES - 2))
        chosen += rng.sample(range(len(self._data.passages)), min(2, len(self._data.passages)))
        chosen = [i for i in dict.fromkeys(chosen) if i != source]
        size = rng.randint(*_STATEMENT_WORDS)
        query = _crops(self._data.passages[source].whole, size, rng)[0]
        texts = [self._data.passages[i].whole for i in chosen]
        similarities = self._teacher.passage_similarities(chosen, source)
        return Group(texts, [query], [[-1]] * len(chosen), similarities)

    def _companions(self, number: int, passages: Sequence[int], rng: random.Random) -> list[int]:
        """Other questions, of the same passages and any; none that a passage seems to answer without being marked."""
        others = [q for i in passages for q in self._by_passage[i]]
        others += rng.choices(range(len(self._data.questions)), k=_STRANGERS)
        fair = [q for q in dict.fromkeys(others) if q != number and self._is_fair(q, passages)]
        return rng.sample(fair, min(len(fair), rng.randint(_MIN_COMPANIONS, _MAX_QUESTIONS - 1)))

    def _is_fair(self, question: int, passages: Sequence[int]) -> bool:
        marked = self._data.questions[question].passages
        return all(i in marked or not self._negatives.answers(question, i) for i in passages)

    def _around_text(self, text: LabelledText, rng: random.Random) -> Group:
        labels = dict(zip(text.labels, text.targets, strict=True))
        count = rng.randint(1, _MAX_LABELS[rng.random() < 0.4])
        true = [label for label, target in labels.items() if target]
        chosen = rng.sample(sorted(labels), min(len(labels), count))
        if true and rng.random() < 0.9:
            chosen = list(dict.fromkeys([rng.choice(true), *chosen]))
        if rng.random() < 0.3:
            other = rng.choice(self._data.texts)
            chosen += [label for label in other.labels[:2] if label not in labels]
        return _shuffled(Group([text.text], chosen, [[labels.get(label, 0) for label in chosen]]), rng)

    def _crop(self, passage: int, question: Question | None, rng: random.Random) -> str:
        """A stretch of a passage, with the answer of a question that it answers."""
        crops = _crops(self._data.passages[passage].text, rng.randint(*self._crop_words), rng)
        return next((crop for crop in crops if question and question.is_named_in(crop)), crops[0])

    def _near_miss(self, passage: int, question: Question, rng: random.Random) -> str | None:
        """A stretch of a passage without any answer of the question, where that can be had."""
        if question.is_named_in(self._data.passages[passage].title):
            return None
        crops = _crops(
            self._data.passages[passage].text, rng.randint(self._crop_words[0], self._crop_words[1] // 2), rng
        )
        return next((crop for crop in crops if not question.is_named_in(crop)), None)


def vary(question: str, rng: random.Random, max_words: int = 80) -> str:
    """Write some questions as people type them: in lower case, as keywords, or with a slip.

    Args:
        question: The question.
        rng: Decides how.
        max_words: A longer question is cut.

    Example:
        >>> {vary("Who wrote The Art of Fugue?", random.Random(i)) for i in range(60)} >= {
        ...     "Who wrote The Art of Fugue?", "who wrote the art of fugue", "wrote art fugue"}
        True
    """
    question = " ".join(question.split()[:max_words])
    kind = rng.random()
    if kind < 0.65:
        return question
    typed = question.lower().rstrip(" ?")
    if kind < 0.85:
        return typed or question
    if kind < 0.95:
        keywords = [word for word in typed.split() if not _FUNCTION_WORD.fullmatch(word)]
        return " ".join(keywords) or question
    return _with_a_slip(typed, rng) or question


def _with_a_slip(text: str, rng: random.Random) -> str:
    """Swap two letters in the middle of a word."""
    places = [m.start() for m in re.finditer(r"(?<=\w\w)[^\W\d_]{2}", text)]
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def _shuffled(group: Group, rng: random.Random) -> Group:
    """The same group with its questions in another order, so that no place among the labels means anything."""
    order = list(range(len(group.questions)))
    rng.shuffle(order)
    return group.with_questions(order)


def _crops(text: str, size: int, rng: random.Random) -> list[str]:
    """Stretches of ``size`` words that cover a text, in random order; the text itself if it is no longer."""
    words = text.split()
    last = len(words) - size
    if last <= 0:
        return [text]
    starts = [*range(0, last, max(1, size // 8)), last]
    rng.shuffle(starts)
    return [" ".join(words[start : start + size]) for start in starts]


def _kind(question: str) -> str:
    first = question.lower().split(maxsplit=1)[:1]
    return first[0] if first and first[0] in _QUESTION_KINDS else "other"
