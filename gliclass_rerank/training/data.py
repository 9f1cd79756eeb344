"""What a model is trained on: passages, questions that some of them answer, and texts with labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a collection."""

    title: str
    text: str

    @property
    def whole(self) -> str:
        """Title and text, as a reader sees them."""
        return f"{self.title} {self.text}".strip()


ANSWERS_FROM = 0.5  # a passage with this target or more answers its question


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what is known of its passages.

    Attributes:
        text: The question.
        passages: Positions of the passages that answer it, the best first.
        answers: The answers' words in lower case, if known.
        negatives: Positions of passages that are known not to answer it.
        source: The folder or file that it comes from.
        targets: By position, how well a passage answers it, from 0 to 1, where that is neither 0 nor 1.
        teacher_scores: By position, a teacher's logit of a passage, where the data has it.
    """

    text: str
    passages: tuple[int, ...]
    answers: tuple[str, ...] = ()
    negatives: tuple[int, ...] = ()
    source: str = ""
    targets: dict[int, float] = field(default_factory=dict, hash=False, repr=False)
    teacher_scores: dict[int, float] = field(default_factory=dict, hash=False, repr=False)

    def target(self, passage: int) -> float:
        """How well a passage answers, from 0 (not at all, or nobody judged it) to 1."""
        return self.targets.get(passage, int(passage in self.passages))

    @property
    def key(self) -> str:
        """The same for questions that differ in case and blanks alone: in training data they are one."""
        return hashlib.sha256(" ".join(self.text.lower().split()).encode("utf-8", "replace")).hexdigest()[:16]

    def is_named_in(self, text: str) -> bool:
        """Whether a text holds the words of an answer; no text does where none are known."""
        lowered = text.lower()
        return any(True for answer in self.answers for _ in _places(lowered, answer))

    def answers_in(self, text: str) -> tuple[str, ...]:
        """The answers that stand in a text, each as it is written there."""
        lowered = text.lower()
        written = text if len(text) == len(lowered) else lowered  # in lower case, a letter may be two
        written_answers = (written[start : start + len(a)] for a in self.answers for start in _places(lowered, a))
        return tuple(dict.fromkeys(written_answers))


def _places(text: str, words: str) -> Iterator[int]:
    """Where words stand in a text, and not as a part of longer ones ("no" in "know").

    Only ASCII letters and digits make a word longer: some scripts put nothing between words.
    """
    start = text.find(words)
    while start >= 0:
        end = start + len(words)
        pairs = (text[start - 1 : start] + words[0], words[-1] + text[end : end + 1])
        if not any(len(pair) == 2 and pair.isascii() and pair.isalnum() for pair in pairs):
            yield start
        start = text.find(words, start + 1)


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, labels, and for each how well it fits the text, from 0 (wrong) to 1 (right)."""

    text: str
    labels: tuple[str, ...]
    targets: tuple[float, ...]
    source: str = ""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All that a model is trained on; the questions' positions point into ``passages``."""

    passages: list[Passage] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    texts: list[LabelledText] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The same for the same data, whatever its files are called, to know it again."""
        digest = hashlib.sha256()
        questions = (replace(question, source="") for question in self.questions)
        texts = (replace(text, source="") for text in self.texts)
        for item in (*self.passages, *questions, *texts):
            digest.update(repr(item).encode("utf-8", "replace"))
        for question in self.questions:
            judgements = (*sorted(question.targets.items()), *sorted(question.teacher_scores.items()))
            if judgements:  # data without soft judgements keeps the digest that earlier versions gave it
                digest.update(repr(judgements).encode())
        return digest.hexdigest()[:16]


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """Choose some questions, evenly over all of them.

    Args:
        questions: All.
        count: How many.

    Raises:
        ValueError: There are not so many.

    Example:
        >>> [question.text for question in spread([Question(str(i), (0,)) for i in range(6)], 2)]
        ['0', '3']
    """
    if count > len(questions):
        raise ValueError(f"{count} questions are asked for, but the data has only {len(questions)}.")
    return [questions[i * len(questions) // count] for i in range(count)]


def set_aside(data: TrainingData, count: int) -> tuple[TrainingData, Sequence[Question]]:
    """Keep some questions out of training, to measure with; their passages stay.

    Args:
        data: The data; not changed.
        count: How many questions; they are spread evenly over all of them.

    Returns:
        The data without these questions, and these questions.

    Raises:
        ValueError: No question would be left to train on.

    Example:
        >>> data = TrainingData([Passage("", "a")], [Question(str(i), (0,)) for i in range(6)])
        >>> rest, aside = set_aside(data, 2)
        >>> [question.text for question in aside], len(rest.questions)
        (['0', '3'], 4)
    """
    if count and count >= len(data.questions):
        raise ValueError(f"{count} questions to be kept out, but the data holds {len(data.questions)}.")
    aside = spread(data.questions, count)
    chosen = {question.key for question in aside}
    return replace(data, questions=[q for q in data.questions if q.key not in chosen]), aside
