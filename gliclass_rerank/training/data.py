"""Read what a model is trained on: collections in BEIR layout, and JSON lines.

Everything becomes one ``TrainingData``: passages, questions that some of them answer, and texts
with labels.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gliclass_rerank.beir_files import read_json_lines, read_qrels, read_rows

# What a row's "label" may say; other words than these are refused, so that no typo turns into a no.
_YES = ("entailment", "true", "yes", "1")
_NO = ("contradiction", "neutral", "not_entailment", "false", "no", "0", "unknown", "uncertain")
_ROW_KINDS = '{"query", "positives", "negatives"}, {"text", "true_labels", "all_labels"} or {"text", "query", "label"}'


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a collection."""

    title: str
    text: str

    @property
    def whole(self) -> str:
        """Title and text, as a reader sees them."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what is known of its passages.

    Attributes:
        text: The question.
        passages: Positions of the passages that answer it.
        answers: The answers' words in lower case, if known.
        negatives: Positions of passages that are known not to answer it.
        source: The folder or file that it comes from.
    """

    text: str
    passages: tuple[int, ...]
    answers: tuple[str, ...] = ()
    negatives: tuple[int, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, labels, and for each whether it holds of the text."""

    text: str
    labels: tuple[str, ...]
    targets: tuple[int, ...]
    source: str = ""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All that a model is trained on; the questions' positions point into ``passages``."""

    passages: list[Passage] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    texts: list[LabelledText] = field(default_factory=list)


def read_data(sources: Iterable[str | os.PathLike[str]], *, exclude: Collection[str] = ()) -> TrainingData:
    """Read collections in BEIR layout and files of JSON lines, into one.

    A folder holds corpus.jsonl, queries.jsonl and qrels/train.tsv; a query may have ``answers``, a
    list of the words that make a passage answer it. The rows of a file are of one of three kinds::

        {"query": "…", "positives": ["passage", …], "negatives": ["passage", …]}
        {"text": "…", "true_labels": ["…", …], "all_labels": ["…", …]}
        {"text": "…", "query": "…", "label": true}

    The second is the official library's; the third may say "entailment", "neutral" and the like.

    Args:
        sources: Folders and files.
        exclude: Ids of a collection's passages to leave out; a question goes with its last passage.

    Raises:
        OSError: A file is missing.
        ValueError: A line is not what it should be, or there is nothing to train on; the message
            names file and line.

    Example:
        >>> read_data(["squad_train", "pairs.jsonl"])  # doctest: +SKIP
    """
    data = TrainingData()
    for source in map(Path, sources):
        if source.is_dir():
            _add_collection(data, source, set(exclude))
        else:
            _add_rows(data, source)
    if not data.questions and not data.texts:
        raise ValueError("the data holds no question with a passage that answers it, and no text with labels.")
    return data


def read_ids(files: Iterable[str | os.PathLike[str]]) -> set[str]:
    """Ids, one a line, of some files.

    Args:
        files: The files.

    Raises:
        OSError: A file is missing.

    Example:
        >>> read_ids([])
        set()
    """
    lines = (line.strip() for file in files for line in Path(file).read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line}


def _add_collection(data: TrainingData, folder: Path, exclude: set[str]) -> None:
    place: dict[str, int | None] = {}  # None: excluded
    for _, row in read_rows(folder / "corpus.jsonl"):
        place[row["_id"]] = None if row["_id"] in exclude else len(data.passages)
        if row["_id"] not in exclude:
            data.passages.append(Passage(row.get("title") or "", row["text"]))
    queries = {row["_id"]: (where, row) for where, row in read_rows(folder / "queries.jsonl")}
    for query_id, judged in read_qrels(folder / "qrels" / "train.tsv", queries, place).items():
        found = (place[passage_id] for passage_id, relevance in judged.items() if relevance > 0)
        positions = tuple(position for position in found if position is not None)
        where, row = queries[query_id]
        answers = tuple(answer.lower() for answer in _texts(row, "answers", where) if answer)
        if positions:
            data.questions.append(Question(row["text"], positions, answers, source=folder.name))


def _add_rows(data: TrainingData, file: Path) -> None:
    place: dict[str, int] = {}  # one passage of several rows is one passage
    claims: dict[str, dict[str, int]] = defaultdict(dict)  # of one text

    def add(passage: str) -> int:
        if passage not in place:
            place[passage] = len(data.passages)
            data.passages.append(Passage("", passage))
        return place[passage]

    for where, row in read_json_lines(file):
        if "positives" in row:
            right, wrong = (tuple(map(add, _texts(row, key, where))) for key in ("positives", "negatives"))
            if not right:
                raise ValueError(f"{where}: positives is empty, expected at least one passage.")
            query = _text(row, "query", where)
            data.questions.append(Question(query, right, negatives=wrong, source=file.name))
        elif "all_labels" in row:
            labels, true = _texts(row, "all_labels", where), set(_texts(row, "true_labels", where))
            claims[_text(row, "text", where)].update((label, int(label in true)) for label in {*labels, *true})
        elif "label" in row:
            claims[_text(row, "text", where)][_text(row, "query", where)] = _truth(row["label"], where)
        else:
            raise ValueError(f"{where}: keys {sorted(row)}, expected {_ROW_KINDS}.")
    for text, truth in claims.items():
        # Sorted: the order of a set differs from run to run.
        ordered = sorted(truth.items())
        labels, targets = [label for label, _ in ordered], [target for _, target in ordered]
        data.texts.append(LabelledText(text, tuple(labels), tuple(targets), source=file.name))


def _truth(label: object, where: str) -> int:
    word = str(label).lower()
    if word not in (*_YES, *_NO):
        raise ValueError(f"{where}: label is {label!r}, expected true or false, or one of {', '.join(_YES + _NO)}.")
    return int(word in _YES)


def _texts(row: dict[str, Any], key: str, where: str) -> list[str]:
    texts = row.get(key) or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: {key} is {texts!r}, expected a list of texts.")
    return texts


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key} is {value!r}, expected a text.")
    return value


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
        raise ValueError(f"{count} questions to be set aside, but the data holds {len(data.questions)}.")
    chosen = {i * len(data.questions) // count for i in range(count)}
    left = [question for i, question in enumerate(data.questions) if i not in chosen]
    return replace(data, questions=left), [data.questions[i] for i in sorted(chosen)]
