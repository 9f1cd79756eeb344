"""What a model is trained on: passages, questions that some of them answer, and texts with labels."""

from __future__ import annotations

import hashlib
import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TypeVar

T = TypeVar("T")

_MIN_GROUPS = 10  # a few long articles would say little of others
_log = logging.getLogger(__name__)


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


def spread(items: Sequence[T], count: int) -> list[T]:
    """Choose some questions or passages, evenly over all of them.

    Args:
        items: All.
        count: How many.

    Raises:
        ValueError: There are not so many.

    Example:
        >>> [question.text for question in spread([Question(str(i), (0,)) for i in range(6)], 2)]
        ['0', '3']
    """
    if count > len(items):
        raise ValueError(f"count is {count}, but there are only {len(items)} to choose from.")
    return [items[i * len(items) // count] for i in range(count)]


def set_aside(data: TrainingData, count: int) -> tuple[TrainingData, Sequence[Question]]:
    """Keep some questions out of training, to measure on passages that training has no question about.

    No question is left that shares an answering passage, or the title of one, with the questions kept out. Those that
    do, and are not kept out themselves, are dropped. Where titles join so many questions that this would drop more
    than half of the others, only passages count; where passages do so too, nothing is dropped, and a warning is
    logged. All passages stay, as what is searched.

    Args:
        data: The data; not changed.
        count: How many questions; if possible, they come from at least ten groups of passages.

    Returns:
        The data to train on, and the questions kept out.

    Raises:
        ValueError: No question would be left to train on.

    Example:
        >>> questions = [Question("what purrs?", (0,)), Question("who purrs?", (0,)), Question("what barks?", (1,))]
        >>> data = TrainingData([Passage("", "Cats purr."), Passage("", "Dogs bark.")], questions)
        >>> rest, aside = set_aside(data, 1)
        >>> [question.text for question in aside], [question.text for question in rest.questions]
        (['what barks?'], ['what purrs?', 'who purrs?'])
    """
    if not count:
        return data, []
    if count >= len(data.questions):
        raise ValueError(f"{count} questions to be kept out, but the data holds {len(data.questions)}.")
    for by_title, share in product((True, False), (-(-count // _MIN_GROUPS), count)):
        groups = _linked_questions(data, by_title=by_title)
        aside, dropped = _choose_groups(groups, count, share, (len(data.questions) - count) // 2)
        if len(aside) == count:
            break
    else:
        _log.warning("held-out questions share passages with others, so their scores will be better than on new text")
        aside, dropped = spread(data.questions, count), []
    gone = {question.key for question in (*aside, *dropped)}
    return replace(data, questions=[q for q in data.questions if q.key not in gone]), aside


def _linked_questions(data: TrainingData, *, by_title: bool) -> list[list[Question]]:
    """Questions in groups that share no passage, and no title if titles count."""
    parents = list(range(len(data.questions)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = i = parents[parents[i]]
        return i

    first: dict[int | str, int] = {}  # question of each passage and title
    for i, question in enumerate(data.questions):
        titles = [data.passages[position].title for position in question.passages if by_title]
        shared: list[int | str] = [*question.passages, *filter(None, titles)]
        for position_or_title in shared:
            parents[root(i)] = root(first.setdefault(position_or_title, i))
    groups: dict[int, list[Question]] = defaultdict(list)
    for i, question in enumerate(data.questions):
        groups[root(i)].append(question)
    return list(groups.values())


def _choose_groups(
    groups: Sequence[Sequence[Question]], count: int, share: int, max_dropped: int
) -> tuple[list[Question], list[Question]]:
    """Choose up to ``count`` questions, at most ``share`` of a group; returns them and the rest of their groups."""
    aside: list[Question] = []
    dropped: list[Question] = []
    for group in random.Random(0).sample(groups, len(groups)):
        size = min(len(group), share, count - len(aside))
        if size and len(dropped) + len(group) - size <= max_dropped:
            chosen = dict.fromkeys(spread(group, size))
            aside += chosen
            dropped += [question for question in group if question not in chosen]
    return aside, dropped
