"""Turn a row of a training file into a judged query or a judged text: the row's keys tell which format it is in.

People bring data that they made for other libraries, so the formats of GLiClass, FlagEmbedding and
sentence-transformers are read beside our own.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# What a "label" beside a "text" may say. Numbers are refused: in some sets 0 is entailment, and in some a position.
_YES = ("entailment", "true", "yes")
_NO = ("contradiction", "neutral", "not_entailment", "false", "no", "unknown", "uncertain")

_QUERY_COLUMNS = ("anchor", "query", "question", "sentence1")
_PASSAGE_COLUMNS = ("positive", "answer", "sentence2")
_JUDGEMENT_COLUMNS = ("label", "score")
_NEGATIVE_COLUMN = re.compile(r"negative(_\d+)?")
# Keys that look like passages or their scores. A format that does not read one would lose data without a word.
_PASSAGES_OR_SCORES = re.compile(r"(pos|neg|positives?|negatives?)(_\w+)?")


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query and how well some passages answer it.

    Attributes:
        query: The query.
        targets: By passage, from 0 (does not answer) to 1 (answers).
        answers: Words that make a passage answer it, in lower case.
        teacher_scores: By passage, the logit of a teacher; empty without a teacher.
    """

    query: str
    targets: Mapping[str, float]
    answers: tuple[str, ...] = ()
    teacher_scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgedText:
    """A text and how well some labels fit it.

    Attributes:
        text: The text.
        targets: By label, from 0 (wrong) to 1 (right).
    """

    text: str
    targets: Mapping[str, float]


class Row:
    """A row's values, checked when they are read; an error names the row's place.

    Args:
        values: The values by key.
        place: File and line, or file and index.
    """

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self.values, self.place = values, place

    def text(self, key: str) -> str:
        """A value that is a text with something in it."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, value, "a string that is not blank")
        return value

    def texts(self, key: str) -> list[str]:
        """A value that is a list of texts; empty if the key is missing."""
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.error(key, value, "a list of strings")
        return value

    def logits(self, key: str, texts_key: str) -> list[float]:
        """A value that is a list of finite numbers, one for each text under another key."""
        value, count = self.values.get(key) or [], len(self.texts(texts_key))
        if not isinstance(value, list) or len(value) != count or not all(map(_is_finite, value)):
            raise self.error(key, value, f"a list of {count} numbers, one for each passage in {texts_key!r}")
        return list(map(float, value))

    def target(self, key: str) -> float:
        """A value that is a number from 0 to 1."""
        return self.check_target(key, self.values[key])

    def check_target(self, key: str, value: object) -> float:
        """The number from 0 to 1 that a value holds; CSV has it as a string."""
        try:
            target = float(value) if isinstance(value, (int, float, str)) else math.nan
        except (ValueError, OverflowError):
            target = math.nan
        if not 0 <= target <= 1:
            way_out = "Divide larger scores by the largest possible one."
            raise ValueError(f"{self.error(key, value, 'a number from 0 to 1')} {way_out}")
        return target

    def answers(self) -> tuple[str, ...]:
        """The words that make a passage answer the row's query, in lower case, if they are known."""
        return tuple(words for answer in self.texts("answers") if (words := answer.strip().lower()))

    def error(self, key: str, value: object, expected: str) -> ValueError:
        """The error for a value that is not as expected."""
        return ValueError(f"{self.place}: {key} is {reprlib.repr(value)}; expected {expected}.")

    def unread(self, key: str, *beside: str) -> ValueError:
        """The error for a key whose value would be lost."""
        return ValueError(f"{self.place}: {key} is not read beside {', '.join(beside)}. Rename it or drop it.")


def parse_row(values: Mapping[str, Any], place: str) -> JudgedQuery | JudgedText:
    """Turn a row of any format into what it says.

    Args:
        values: The row by key.
        place: File and line, or file and index, for errors.

    Raises:
        ValueError: The keys are those of no format, or a value is not what it should be.

    Example:
        >>> parse_row({"query": "what purrs?", "pos": ["cats"], "neg": ["dogs"]}, "a.jsonl:1").targets
        {'cats': 1.0, 'dogs': 0.0}
    """
    row = Row(values, place)
    for keys, read_keys, parse in _FORMATS:
        if keys <= values.keys():
            unread = [key for key in values if _PASSAGES_OR_SCORES.fullmatch(key) and not read_keys.fullmatch(key)]
            if unread:
                raise row.unread(unread[0], *sorted(keys))
            return parse(row)
    row_keys = ", ".join(map(repr, values)) or "none"
    raise ValueError(f"{place} has the keys {row_keys}; expected those of a format: {_KNOWN_KEYS}.")


def _parse_query(row: Row) -> JudgedQuery:
    """Our own format: a query with lists of passages."""
    return JudgedQuery(row.text("query"), _judge(row, "positives", "negatives"), row.answers())


def _parse_flag_embedding(row: Row) -> JudgedQuery:
    """FlagEmbedding's format: the same with shorter keys, and perhaps a teacher's scores."""
    scores: dict[str, float] = {}
    if row.values.get("pos_scores") is not None or row.values.get("neg_scores") is not None:
        texts = row.texts("neg") + row.texts("pos")
        scores = dict(zip(texts, row.logits("neg_scores", "neg") + row.logits("pos_scores", "pos"), strict=True))
    return JudgedQuery(row.text("query"), _judge(row, "pos", "neg"), teacher_scores=scores)


def _judge(row: Row, positives: str, negatives: str) -> dict[str, float]:
    """Targets of the passages under two keys; one under both answers."""
    targets = dict.fromkeys(row.texts(positives), 1.0)
    if not targets:
        raise row.error(positives, row.values.get(positives), "at least one passage")
    return {**targets, **{text: 0.0 for text in row.texts(negatives) if text not in targets}}


def _parse_columns(row: Row) -> JudgedQuery:
    """The columns of sentence-transformers: a query and a passage, with negatives, a label or a score."""
    query = next(key for key in _QUERY_COLUMNS if key in row.values)
    passage = next(key for key in _PASSAGE_COLUMNS if key in row.values)
    judgement = next((key for key in _JUDGEMENT_COLUMNS if key in row.values), None)
    # A row with fewer negatives than others has blanks.
    filled = [key for key, value in row.values.items() if _NEGATIVE_COLUMN.fullmatch(key) and value not in (None, "")]
    if judgement and filled:
        raise row.unread(filled[0], judgement)
    targets = {row.text(passage): 1.0 if judgement is None else row.target(judgement)}
    for key in filled:
        targets.setdefault(row.text(key), 0.0)
    return JudgedQuery(row.text(query), targets)


def _parse_text(row: Row) -> JudgedText:
    """GLiClass's format: a text with labels, and those that are true or how true each is."""
    given = row.values.get("true_labels")
    if isinstance(given, dict):
        true = {label: row.check_target(f"true_labels[{label!r}]", value) for label, value in given.items()}
    else:
        true = dict.fromkeys(row.texts("true_labels"), 1)
    labels = [*row.texts("all_labels"), *true]
    if blank := next((label for label in labels if not label.strip()), None):
        raise row.error("a label", blank, "a string that is not blank")
    return JudgedText(row.text("text"), {label: true.get(label, 0) for label in labels})


def _parse_inference(row: Row) -> JudgedText:
    """Whether a text bears a statement out."""
    value = row.values["label"]
    word = str(value).lower()
    if word not in (*_YES, *_NO):
        raise row.error("label", value, f"true or false, or one of {', '.join(_YES + _NO)}")
    return JudgedText(row.text("text"), {row.text("query"): int(word in _YES)})


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_Parser = Callable[[Row], JudgedQuery | JudgedText]
_COLUMN_PAIRS = [
    *({query, passage} for query in _QUERY_COLUMNS[:-1] for passage in _PASSAGE_COLUMNS[:-1]),
    *({"sentence1", "sentence2", judgement} for judgement in _JUDGEMENT_COLUMNS),
]
# The keys that tell a format, those of passages and their scores that it reads, and what parses it.
_FORMATS: list[tuple[set[str], re.Pattern[str], _Parser]] = [
    ({"query", "positives"}, re.compile("positives|negatives"), _parse_query),
    ({"query", "pos"}, re.compile("(pos|neg)(_scores)?"), _parse_flag_embedding),
    ({"text", "all_labels"}, re.compile(""), _parse_text),
    ({"text", "query", "label"}, re.compile(""), _parse_inference),
    *((pair, re.compile(f"positive|{_NEGATIVE_COLUMN.pattern}"), _parse_columns) for pair in _COLUMN_PAIRS),
]
_KNOWN_KEYS = (
    "query, positives; query, pos; text, all_labels, true_labels; text, query, label; "
    "anchor (or query, question), positive (or answer); sentence1, sentence2, score (or label)"
)
