"""Does "nothing relevant" get a low score? AUROC of answerable questions against two kinds of others.

    python -m benchmarks.answerability DATA [--without-answers COLLECTION] [--model FOLDER] [--questions 1000]

DATA has corpus.jsonl, queries.jsonl and qrels/test.tsv, which judges each question against the one
paragraph it was written for: relevance 0 if that paragraph holds no answer, however close it comes.
Answerable questions with their paragraph are compared with

- the same questions with a random paragraph of another article,
- unanswerable questions with the paragraph they were written for: adversarial, since people made them fit.

For each question of a collection, the best score of its first 10 candidates is compared with the best score
after the relevant candidates are removed and others move up: is there anything relevant?

Precision, recall and F1 use the threshold the model recommends, unless you give another. Positives and
negatives are about equally many. Prints a table and writes results/answerability.json.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.beir import read_passages, read_qrels, read_queries, read_rows
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import Collection, read_collection

SEED = 0
CANDIDATES = 10


@dataclass(frozen=True)
class Question:
    """A question with the paragraph it was written for, and one of another article."""

    text: str
    own: str
    other: str
    answerable: bool


@dataclass(frozen=True)
class Scores:
    """The scores of each kind of pair."""

    own: list[float]
    other: list[float]
    unanswerable: list[float]


def read_questions(folder: Path, limit: int) -> list[Question]:
    """Answerable and unanswerable questions, up to ``limit`` of each drawn at random; 0 for all."""
    rng = random.Random(SEED)
    titles = {row["_id"]: row.get("title") or "" for _, row in read_rows(folder / "corpus.jsonl")}
    if len(set(titles.values())) < 2:
        raise SystemExit(f"{folder}: all passages have the same title, so none comes from another article.")
    passages = read_passages(folder / "corpus.jsonl")
    elsewhere = {title: [key for key, other in titles.items() if other != title] for title in set(titles.values())}
    texts = read_queries(folder / "queries.jsonl")
    judged = read_qrels(folder / "qrels" / "test.tsv", texts, passages)
    questions = []
    for answerable in (True, False):
        pairs = [(q, own) for q, grades in judged.items() for own, r in grades.items() if (r > 0) == answerable]
        if limit:
            pairs = rng.sample(pairs, min(limit, len(pairs)))
        for query, own in pairs:
            other = rng.choice(elsewhere[titles[own]])
            questions.append(Question(texts[query], passages[own], passages[other], answerable))
    if len({question.answerable for question in questions}) < 2:
        raise SystemExit(f"{folder}: expected questions of both kinds, judged above 0 and judged 0.")
    return questions


def score_questions(questions: Sequence[Question], reranker: GLiClassReranker) -> Scores:
    """Score every question with its own paragraph, and the answerable ones with the other one too."""
    scores = Scores([], [], [])
    for question in progress(questions, "questions"):
        if question.answerable:
            own, other = reranker.score(question.text, [question.own, question.other])
            scores.own.append(own)
            scores.other.append(other)
        else:
            scores.unanswerable.extend(reranker.score(question.text, [question.own]))
    return scores


def score_without_answers(collection: Collection, reranker: GLiClassReranker) -> tuple[list[float], list[float]]:
    """Each question's best score among candidates with an answer, and among candidates without one."""
    best: tuple[list[float], list[float]] = ([], [])
    for query, text in progress(collection.queries.items(), collection.name):
        ids = collection.candidates[query]
        relevant = {i for i in ids if collection.qrels[query].get(i, 0) > 0}
        others = [i for i in ids if i not in relevant][:CANDIDATES]
        if relevant & set(ids[:CANDIDATES]) and others:
            scores = reranker.score(text, [collection.passages[i] for i in [*ids[:CANDIDATES], *others]])
            best[0].append(max(scores[: -len(others)]))
            best[1].append(max(scores[-len(others) :]))
    return best


def compare(positives: Sequence[float], negatives: Sequence[float], threshold: float) -> dict[str, Any]:
    """How well scores separate positives from negatives, without a threshold and with it."""
    truth = [True] * len(positives) + [False] * len(negatives)
    scores = [*positives, *negatives]
    predicted = [score >= threshold for score in scores]
    # If nothing reaches the threshold, precision is 0, and no reason to warn.
    precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, average="binary", zero_division=0)
    measured = {
        "mean score of positives": mean(positives),
        "mean score of negatives": mean(negatives),
        "AUROC": roc_auc_score(truth, scores),
        "precision": precision,
        "recall": recall,
        "F1": f1,
    }
    return {
        "positives": len(positives),
        "negatives": len(negatives),
        **{name: round(float(value), 4) for name, value in measured.items()},
    }


def main() -> None:
    """Measure, print a table and write results/answerability.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", help="hub name or folder; default: the bundled model")
    parser.add_argument("--questions", type=int, default=0, help="how many of each kind, drawn at random; 0 for all")
    parser.add_argument(
        "--without-answers", type=Path, nargs="*", default=[], help="collections to remove answers from"
    )
    parser.add_argument(
        "--threshold", type=float, help="the lowest score that counts as an answer; default: the recommended one"
    )
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained(options.model)
    threshold = reranker.recommended_threshold if options.threshold is None else options.threshold
    if threshold is None:
        raise SystemExit("the model recommends no threshold: give one with --threshold.")
    collections = [read_collection(folder, queries=options.questions or None) for folder in options.without_answers]
    scores = score_questions(read_questions(options.data, options.questions), reranker)
    rows = [
        {"against": against, **compare(positives, negatives, threshold)}
        for against, positives, negatives in (
            ("another article's paragraph", scores.own, scores.other),
            ("unanswerable, own paragraph", scores.own, scores.unanswerable),
            *((f"{c.name}: answers removed", *score_without_answers(c, reranker)) for c in collections),
        )
    ]
    columns = ("AUROC", "precision", "recall", "F1")
    cells = [[row["against"], *(f"{row[column]:.3f}" for column in columns)] for row in rows]
    table = make_table(["answerable questions against", *columns], cells)
    print_table(table, f"threshold {threshold}")
    result = {"data": options.data.name, "threshold": threshold, "comparisons": rows, "table": table}
    write_result("answerability", result)


if __name__ == "__main__":
    main()
