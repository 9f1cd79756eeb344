"""Does "nothing relevant" get a low score? AUROC of answerable questions against two kinds of others.

    python -m benchmarks.answerability DATA [--taken-out COLLECTION] [--model FOLDER] [--questions 1000]

DATA has corpus.jsonl, queries.jsonl and qrels/test.tsv, in which each question is judged against
the one paragraph it was asked about: relevance 0 where that paragraph, near as it is, holds no
answer. Answerable questions with their own paragraph are set against

- the same questions with a random paragraph of another article,
- unanswerable questions with their own paragraph: adversarial, since people wrote them to fit it.

Of a collection's questions the best score among their first 10 candidates is set against the best one
when the relevant candidates are taken out and others move up: is there anything relevant?

Precision, recall and F1 are those of keeping what reaches the threshold, the model's recommended one unless
another is given; positives and negatives are about as many. Prints a table and writes results/answerability.json.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from benchmarks.results_file import write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.beir import read_passages, read_qrels, read_queries, read_rows
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import Collection, read_collection

SEED = 0
CANDIDATES = 10


@dataclass(frozen=True)
class Question:
    """A question with the paragraph it was asked about and one of another article."""

    text: str
    own: str
    other: str
    answerable: bool


@dataclass(frozen=True)
class Scores:
    """What each kind of pair got."""

    own: list[float]
    other: list[float]
    unanswerable: list[float]


def read_questions(folder: Path, most: int) -> list[Question]:
    """Answerable and unanswerable questions, ``most`` of each drawn at random; 0 for all."""
    rng = random.Random(SEED)
    titles = {row["_id"]: row.get("title") or "" for _, row in read_rows(folder / "corpus.jsonl")}
    if len(set(titles.values())) < 2:
        raise SystemExit(f"{folder}: all passages have one title, so there are none of another article.")
    passages = read_passages(folder / "corpus.jsonl")
    elsewhere = {title: [key for key, other in titles.items() if other != title] for title in set(titles.values())}
    texts = read_queries(folder / "queries.jsonl")
    judged = read_qrels(folder / "qrels" / "test.tsv", texts, passages)
    questions = []
    for answerable in (True, False):
        pairs = [(q, own) for q, of_query in judged.items() for own, r in of_query.items() if (r > 0) == answerable]
        if most:
            pairs = rng.sample(pairs, min(most, len(pairs)))
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


def score_taken_out(collection: Collection, reranker: GLiClassReranker) -> tuple[list[float], list[float]]:
    """Best scores of questions among candidates that hold an answer, and among candidates that hold none."""
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
    """How well scores tell positives from negatives, without a threshold and with it."""
    truth = [True] * len(positives) + [False] * len(negatives)
    scores = [*positives, *negatives]
    kept = [score >= threshold for score in scores]
    # Nothing kept at all is no precision, and no reason to warn.
    precision, recall, f1, _ = precision_recall_fscore_support(truth, kept, average="binary", zero_division=0)
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
    parser.add_argument("--model", help="hub name or folder; the bundled model without it")
    parser.add_argument("--questions", type=int, default=0, help="how many of each kind, drawn at random; 0 for all")
    parser.add_argument("--taken-out", type=Path, nargs="*", default=[], help="collections whose answers to take out")
    parser.add_argument("--threshold", type=float, help="keep what has at least this score; the model's own without it")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained(options.model)
    threshold = reranker.recommended_threshold if options.threshold is None else options.threshold
    if threshold is None:
        raise SystemExit("the model recommends no threshold: give one with --threshold.")
    collections = [read_collection(folder, queries=options.questions or None) for folder in options.taken_out]
    scores = score_questions(read_questions(options.data, options.questions), reranker)
    rows = [
        {"against": against, **compare(positives, negatives, threshold)}
        for against, positives, negatives in (
            ("another article's paragraph", scores.own, scores.other),
            ("unanswerable, own paragraph", scores.own, scores.unanswerable),
            *((f"{c.name}: answers taken out", *score_taken_out(c, reranker)) for c in collections),
        )
    ]
    columns = ("AUROC", "precision", "recall", "F1")
    table = Table("against", "pairs", *columns, title=f"answerable questions; kept at {threshold}")
    for row in rows:
        pairs = row["positives"] + row["negatives"]
        table.add_row(row["against"], str(pairs), *(f"{row[column]:.3f}" for column in columns))
    Console().print(table)
    write_result("answerability", {"data": options.data.name, "threshold": threshold, "comparisons": rows})


if __name__ == "__main__":
    main()
