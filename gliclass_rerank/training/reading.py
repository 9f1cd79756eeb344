"""Read training data: collections in BEIR layout, and JSON lines."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from gliclass_rerank.data.beir import read_json_lines, read_qrels, read_rows
from gliclass_rerank.training.data import LabelledText, Passage, Question, TrainingData

# What a row's "label" may say; other words than these are refused, so that no typo turns into a no.
# Numbers are refused too: in some sets 0 is entailment, and in some the label is a position.
_YES = ("entailment", "true", "yes")
_NO = ("contradiction", "neutral", "not_entailment", "false", "no", "unknown", "uncertain")
_ROW_KINDS = '{"query", "positives", "negatives"}, {"text", "true_labels", "all_labels"} or {"text", "query", "label"}'


def read_data(sources: Iterable[str | os.PathLike[str]], *, exclude: Collection[str] = ()) -> TrainingData:
    """Read collections in BEIR layout and files of JSON lines, into one.

    A folder holds corpus.jsonl, queries.jsonl and qrels/train.tsv. The rows of a file are of one of
    three kinds::

        {"query": "…", "positives": ["passage", …], "negatives": ["passage", …]}
        {"text": "…", "true_labels": ["…", …], "all_labels": ["…", …]}
        {"text": "…", "query": "…", "label": true}

    A query of a folder and a row of the first kind may have ``answers``, a list of the words that
    make a passage answer it. The second kind is the official library's; the third may say
    "entailment", "neutral" and the like. Equal passages become one, and so do questions that differ
    in case and blanks alone, wherever they come from.

    Args:
        sources: Folders and files.
        exclude: Ids of collections' passages to leave out; a question goes with its last passage.

    Raises:
        OSError: A file is missing.
        ValueError: A line is not what it should be, nothing is to be excluded by these ids, or there
            is nothing to train on; the message names file and line.

    Example:
        >>> read_data(["squad_train", "pairs.jsonl"])  # doctest: +SKIP
    """
    reader = _Reader(set(exclude))
    for source in map(Path, sources):
        if source.is_dir():
            reader.read_collection(source)
        else:
            reader.read_rows(source)
    if exclude and not reader.excluded:
        raise ValueError(f"none of the {len(exclude)} ids to exclude, such as {min(exclude)!r}, is in the data.")
    data = reader.data()
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
    lines = (line.strip() for file in files for line in Path(file).read_text(encoding="utf-8-sig").splitlines())
    return {line for line in lines if line}


class _Reader:
    """Gathers what is read, equal passages and equal questions as one."""

    def __init__(self, exclude: set[str]) -> None:
        self.excluded = 0
        self._exclude = exclude
        self._passages: dict[str, tuple[int, Passage]] = {}  # of each whole text, and its position
        self._questions: dict[str, Question] = {}
        self._claims: dict[str, dict[str, int]] = defaultdict(dict)  # of each text
        self._sources: dict[str, str] = {}  # of each text

    def data(self) -> TrainingData:
        texts = [
            LabelledText(text, tuple(claims), tuple(claims.values()), self._sources[text])
            for text, claims in self._claims.items()
        ]
        return TrainingData([passage for _, passage in self._passages.values()], list(self._questions.values()), texts)

    def read_collection(self, folder: Path) -> None:
        place: dict[str, int | None] = {}  # None: excluded
        for where, row in read_rows(folder / "corpus.jsonl"):
            passage_id, title = row["_id"], row.get("title") or ""
            if not isinstance(title, str):
                raise ValueError(f"{where}: title is {title!r}, expected a text.")
            place[passage_id] = None if passage_id in self._exclude else self._place(Passage(title, row["text"]))
        self.excluded += sum(position is None for position in place.values())
        queries = {row["_id"]: (where, row) for where, row in read_rows(folder / "queries.jsonl")}
        for query_id, judged in read_qrels(folder / "qrels" / "train.tsv", queries, place).items():
            where, row = queries[query_id]
            placed = [(position, judged[id_]) for id_ in judged if (position := place[id_]) is not None]
            right = tuple(position for position, relevance in placed if relevance > 0)
            wrong = tuple(position for position, relevance in placed if relevance <= 0)
            if right:
                text = _text(row, "text", where)
                self._add(Question(text, right, _answers(row, where), wrong, folder.name))

    def read_rows(self, file: Path) -> None:
        for where, row in read_json_lines(file):
            if "positives" in row:
                right, wrong = (
                    tuple(self._place(Passage("", text)) for text in _texts(row, key, where))
                    for key in ("positives", "negatives")
                )
                if not right:
                    raise ValueError(f"{where}: positives is empty, expected at least one passage.")
                text = _text(row, "query", where)
                self._add(Question(text, right, _answers(row, where), wrong, file.name))
            elif "all_labels" in row:
                true = _texts(row, "true_labels", where)
                for label in dict.fromkeys([*_texts(row, "all_labels", where), *true]):
                    self._claim(_text(row, "text", where), label, int(label in true), where, file)
            elif "label" in row:
                text, claim = _text(row, "text", where), _text(row, "query", where)
                self._claim(text, claim, _truth(row["label"], where), where, file)
            else:
                raise ValueError(f"{where}: keys {sorted(row)}, expected {_ROW_KINDS}.")

    def _place(self, passage: Passage) -> int:
        return self._passages.setdefault(passage.whole, (len(self._passages), passage))[0]

    def _add(self, question: Question) -> None:
        known = self._questions.get(question.key, question)
        right = tuple(dict.fromkeys(known.passages + question.passages))
        self._questions[question.key] = Question(
            known.text,
            right,
            tuple(dict.fromkeys(known.answers + question.answers)),
            tuple(i for i in dict.fromkeys(known.negatives + question.negatives) if i not in right),
            known.source,
        )

    def _claim(self, text: str, claim: str, truth: int, where: str, file: Path) -> None:
        if not claim.strip():
            raise ValueError(f"{where}: a label is {claim!r}, expected a text.")
        self._sources.setdefault(text, file.name)
        if self._claims[text].setdefault(claim, truth) != truth:
            raise ValueError(f"{where}: {claim!r} was labelled differently above, for the same text.")


def _truth(label: object, where: str) -> int:
    word = str(label).lower()
    if word not in (*_YES, *_NO):
        raise ValueError(f"{where}: label is {label!r}, expected true or false, or one of {', '.join(_YES + _NO)}.")
    return int(word in _YES)


def _answers(row: dict[str, Any], where: str) -> tuple[str, ...]:
    return tuple(words for answer in _texts(row, "answers", where) if (words := answer.strip().lower()))


def _texts(row: dict[str, Any], key: str, where: str) -> list[str]:
    texts = row.get(key) or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: {key} is {texts!r}, expected a list of texts.")
    return texts


def _text(row: dict[str, Any], key: str, where: str) -> str:
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: {key} is {text!r}, expected a text.")
    return text
