"""Draw groups from training data: some passages, some questions, and which passage answers which question.

The loss is computed for one group at a time. All passages of a group get the same labels, so the loss can compare the
labels of one passage, and also the passages for one label, which is what reranking does.
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

_PASSAGES = 6  # the most passages of a group, not counting a near miss
_HARD = 4  # how many of them are hard negatives
_MAX_QUESTIONS = 8  # the most questions of a group
_MULTI_QUERY_SHARE = 0.15
_MIN_COMPANIONS = 2
_STRANGERS = 2  # how many randomly chosen questions may be among the companions
_MAX_LABELS = (8, 32)  # the most labels of a text: usually the first limit, sometimes the second
_STATEMENT_WORDS = (20, 160)
_STATEMENT_PASSAGES = 6
# Texts that say nothing; the model must not rank them above a passage that answers.
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
# Words that nobody would search for; they are left out when a question is shortened to keywords.
_FUNCTION_WORD = re.compile(
    "a|an|and|are|at|be|by|can|did|do|does|for|from|had|has|have|how|in|is|it|its|of|on|or|should|that|the|their"
    "|there|these|they|this|to|was|were|what|when|where|which|who|whom|whose|why|will|with|would"
)


@dataclass(frozen=True, slots=True)
class Group:
    """Passages and questions, and what is known about each passage p and question q.

    ``targets[p][q]`` is 1 if p answers q, 0 if it does not, and -1 if that is unknown. ``similarities[p][q]`` is the
    teacher's cosine, if there is a teacher. ``answers[p][q]`` are the words in p that answer q, if they are known.
    """

    passages: list[str]
    questions: list[str]
    targets: list[list[int]]
    similarities: list[list[float]] | None = None
    answers: list[list[tuple[str, ...]]] | None = None

    def with_questions(self, order: Sequence[int]) -> Group:
        """Return a group with the same passages, and with the questions at these positions, in this order."""
        return Group(
            self.passages,
            [self.questions[i] for i in order],
            [[row[i] for i in order] for row in self.targets],
            self.similarities and [[row[i] for i in order] for row in self.similarities],
            self.answers and [[row[i] for i in order] for row in self.answers],
        )


class GroupSampler:
    """Draws groups from training data. The same seed and number always give the same group.

    A question group is built around one question. Most of these groups have only that question, as when the model is
    used; the others have up to eight, mostly three or more, which take little more time than one. The passages are
    one that answers the question, four hard negatives, and another passage, with the same title or any. If the
    words of the answers are known, passages are cropped, and half of the groups also get a near miss: a stretch
    of the answering passage that does not contain the answer.

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
        self._text_share, self._statement_share, self._empty_share = text_share, statement_share, empty_share
        self._by_passage: dict[int, list[int]] = defaultdict(list)
        for i, question in enumerate(data.questions):
            for position in question.passages:
                self._by_passage[position].append(i)
        # Small collections and rare kinds of questions (why, how) are drawn more often than their size suggests.
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
        else:  # Crop none: a crop might lack the answer, and if only others were cropped, length would reveal it.
            crops = [self._data.passages[i].text for i in chosen]
        targets = [
            [int(i in q.passages and (not cropped or q.is_named_in(crop))) for q in questions]
            for i, crop in zip(chosen, crops, strict=True)
        ]
        titles = (self._data.passages[i].title if rng.random() < 0.7 else "" for i in chosen)
        texts = [f"{title} {crop}".strip() for title, crop in zip(titles, crops, strict=True)]
        similarities = None
        if self._teacher:
            # These are of whole passages, so the teacher pulls a near miss to second place, ahead of other passages.
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
        """Build a group whose query is a stretch of a passage; the targets come only from the teacher."""
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
        """Draw more questions for a group, about the same passages or any.

        A question is left out if a passage seems to answer it without being marked as its answer.
        """
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
        """Return a stretch of a passage; if a question is given, one that contains its answer, if possible."""
        crops = _crops(self._data.passages[passage].text, rng.randint(*self._crop_words), rng)
        return next((crop for crop in crops if question and question.is_named_in(crop)), crops[0])

    def _near_miss(self, passage: int, question: Question, rng: random.Random) -> str | None:
        """Return a stretch of a passage that does not contain an answer to the question; None if there is none."""
        if question.is_named_in(self._data.passages[passage].title):
            return None
        crops = _crops(
            self._data.passages[passage].text, rng.randint(self._crop_words[0], self._crop_words[1] // 2), rng
        )
        return next((crop for crop in crops if not question.is_named_in(crop)), None)


def vary(question: str, rng: random.Random, max_words: int = 80) -> str:
    """Change some questions to how people type them: in lower case, as keywords, or with a typing error.

    Args:
        question: The question.
        rng: Decides whether and how the question changes.
        max_words: Longer questions are cut to this many words.

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
    """Shuffle a group's questions, so that the model learns nothing from their order."""
    order = list(range(len(group.questions)))
    rng.shuffle(order)
    return group.with_questions(order)


def _crops(text: str, size: int, rng: random.Random) -> list[str]:
    """Return stretches of ``size`` words that cover a text, in random order; only the text itself if it is short."""
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
