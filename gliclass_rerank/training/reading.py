"""Read training data from folders and files, and join what they say about equal questions, passages and texts."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gliclass_rerank.data.beir import read_qrels, read_rows
from gliclass_rerank.data.tables import read_table
from gliclass_rerank.training.data import ANSWERS_FROM, LabelledText, Passage, Question, TrainingData
from gliclass_rerank.training.rows import JudgedQuery, JudgedText, Row, parse_row


def read_data(sources: Iterable[str | os.PathLike[str]], *, exclude: Collection[str] = ()) -> TrainingData:
    """Read collections in BEIR layout and files of rows, into one.

    A folder holds corpus.jsonl, queries.jsonl and qrels/train.tsv. A file holds JSON lines, a JSON array
    (.json) or CSV with a header (.csv, .tsv). The keys of a row tell its format::

        {"query": "…", "positives": ["passage", …], "negatives": ["passage", …]}
        {"query": "…", "pos": ["passage", …], "neg": ["passage", …], "pos_scores": [5.1, …], "neg_scores": [-3.2, …]}
        {"anchor": "…", "positive": "passage", "negative_1": "passage", …}
        {"sentence1": "…", "sentence2": "passage", "score": 0.8}
        {"text": "…", "all_labels": ["…", …], "true_labels": ["…", …]}
        {"text": "…", "query": "…", "label": "entailment"}

    docs/training.md shows each. Grades of qrels and scores become soft targets. Equal passages become
    one, and so do questions that differ in case and blanks alone, wherever they come from.

    Args:
        sources: Folders and files.
        exclude: Ids of collections' passages to leave out; a question goes with its last passage.

    Raises:
        OSError: A file is missing.
        ValueError: A row is not what it should be, nothing is to be excluded by these ids, or there
            is nothing to train on; the message names the file and the row.

    Example:
        >>> read_data(["squad_train", "pairs.jsonl"])  # doctest: +SKIP
    """
    gatherer = _Gatherer(set(exclude))
    for source in map(Path, sources):
        if source.is_dir():
            gatherer.add_collection(source)
        else:
            gatherer.add_file(source)
    if exclude and not gatherer.excluded:
        raise ValueError(f"none of the {len(exclude)} ids to exclude, such as {min(exclude)!r}, is in the data.")
    data = gatherer.data()
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


@dataclass(slots=True)
class _DraftQuestion:
    """What the rows read so far say about a question; passages are positions."""

    text: str
    source: str
    targets: dict[int, float] = field(default_factory=dict)
    answers: dict[str, None] = field(default_factory=dict)
    teacher_scores: dict[int, float] = field(default_factory=dict)

    def judge(self, passage: int, target: float) -> None:
        """Note how well a passage answers; the best judgement counts."""
        if target > self.targets.get(passage, -1):
            self.targets.pop(passage, None)
            self.targets[passage] = target

    def question(self) -> Question:
        """The question, its best passages first."""
        answering = [i for i, target in self.targets.items() if target >= ANSWERS_FROM]
        return Question(
            self.text,
            tuple(sorted(answering, key=lambda i: -self.targets[i])),
            tuple(self.answers),
            tuple(i for i, target in self.targets.items() if target < ANSWERS_FROM),
            self.source,
            {i: target for i, target in self.targets.items() if target not in (0, 1)},
            self.teacher_scores,
        )


@dataclass(slots=True)
class _DraftText:
    """What the rows read so far say about a text."""

    source: str
    targets: dict[str, float] = field(default_factory=dict)


class _Gatherer:
    """Gathers questions, passages and texts; equal ones become one."""

    def __init__(self, exclude: set[str]) -> None:
        self.excluded = 0
        self._exclude = exclude
        self._passages: dict[str, tuple[int, Passage]] = {}  # by whole text, with its position
        self._questions: dict[str, _DraftQuestion] = {}  # by key
        self._texts: dict[str, _DraftText] = {}  # by text

    def data(self) -> TrainingData:
        """All that was gathered."""
        passages = [passage for _, passage in self._passages.values()]
        questions = []
        for question in (draft.question() for draft in self._questions.values()):
            if question.passages:
                questions.append(question)
            else:
                self._add_pairs(question, passages)
        texts = [
            LabelledText(text, tuple(draft.targets), tuple(draft.targets.values()), draft.source)
            for text, draft in self._texts.items()
        ]
        return TrainingData(passages, questions, texts)

    def add_collection(self, folder: Path) -> None:
        """Add a collection in BEIR layout; queries without a relevant passage are left out."""
        positions = self._add_corpus(folder / "corpus.jsonl")
        queries = {row["_id"]: Row(row, place) for place, row in read_rows(folder / "queries.jsonl")}
        qrels = read_qrels(folder / "qrels" / "train.tsv", queries, positions)
        best = max((grade for grades in qrels.values() for grade in grades.values()), default=0)
        for query_id, grades in qrels.items():
            row = queries[query_id]
            targets = [(i, _target(grade, best)) for id_, grade in grades.items() if (i := positions[id_]) is not None]
            if any(target for _, target in targets):
                self._add_question(row.text("text"), targets, row.answers(), folder.name)

    def add_file(self, file: Path) -> None:
        """Add a file of rows."""
        for place, values in read_table(file):
            row = parse_row(values, place)
            if isinstance(row, JudgedQuery):
                self._add_query(row, file.name)
            else:
                self._add_text(row, place, file.name)

    def _add_corpus(self, file: Path) -> dict[str, int | None]:
        """Add a collection's passages; returns their positions by id, None for those to exclude."""
        positions: dict[str, int | None] = {}
        for place, row in read_rows(file):
            passage_id, title = row["_id"], row.get("title") or ""
            if not isinstance(title, str):
                raise ValueError(f"{place}: title is {title!r}; expected a string.")
            is_excluded = passage_id in self._exclude
            positions[passage_id] = None if is_excluded else self._position(Passage(title, row["text"]))
            self.excluded += is_excluded
        return positions

    def _position(self, passage: Passage) -> int:
        return self._passages.setdefault(passage.whole, (len(self._passages), passage))[0]

    def _add_query(self, row: JudgedQuery, source: str) -> None:
        targets = [(self._position(Passage("", text)), target) for text, target in row.targets.items()]
        draft = self._add_question(row.query, targets, row.answers, source)
        draft.teacher_scores |= {self._position(Passage("", text)): s for text, s in row.teacher_scores.items()}

    def _add_question(
        self, text: str, targets: Iterable[tuple[int, float]], answers: Iterable[str], source: str
    ) -> _DraftQuestion:
        draft = self._questions.setdefault(Question(text, ()).key, _DraftQuestion(text, source))
        for passage, target in targets:
            draft.judge(passage, target)
        draft.answers |= dict.fromkeys(answers)
        return draft

    def _add_text(self, row: JudgedText, place: str, source: str) -> None:
        draft = self._texts.setdefault(row.text, _DraftText(source))
        for label, target in row.targets.items():
            if draft.targets.setdefault(label, target) != target:
                raise ValueError(f"{place}: {label!r} was labelled differently above, for the same text.")

    def _add_pairs(self, question: Question, passages: list[Passage]) -> None:
        """Add a question that no passage answers as a label of each passage: a pair alone teaches too."""
        for position in question.negatives:
            draft = self._texts.setdefault(passages[position].whole, _DraftText(question.source))
            draft.targets.setdefault(question.text, question.target(position))


def _target(grade: int, best: int) -> float:
    """The target of a grade of relevance: the best grade's is 1, and all that are relevant are above .5."""
    return (1 + grade / best) / 2 if grade > 0 else 0
