"""Measures filtering for a context window: the tokens it leaves, and the questions whose answer it leaves.

    python -m benchmarks.context_window COLLECTION... [--queries 100] [--encoder FOLDER]

Each question has 20 candidates. A filter fills a budget (a fraction of their tokens) in the first stage's
order or in the reranked one, or applies a threshold. A question counts if a relevant passage is among its
candidates, and keeps its answer if the filter leaves a relevant passage.

Another table compares whole passages with sentences, and with LangChain's and LlamaIndex's filters by a sentence
encoder (`--encoder`; they need langchain-community). There a question keeps its answer only if the words that answer it
are left: those of SQuAD, or those of context_answers.json. The script prints the tables and writes
results/context_window.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.context_contenders import Contender, make_contenders
from benchmarks.results_file import ResultTable, make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker, RankedPassage, fill_context
from gliclass_rerank.context import estimate_tokens
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import Collection, read_collection

CANDIDATES = 20
BUDGETS = (0.1, 0.2, 0.4)
THRESHOLDS = (0.3, 0.5, 0.7)
SMALL_BUDGETS = (0.05, 0.1)
ANSWERS = Path(__file__).parent / "context_answers.json"


def filter_by_rules(hits: list[RankedPassage], first_stage: list[RankedPassage]) -> dict[str, list[RankedPassage]]:
    """The passages that each filter leaves of one question's candidates."""
    total = sum(estimate_tokens(hit.text) for hit in first_stage)
    chosen = {}
    for budget in BUDGETS:
        for name, ordered in (("first stage", first_stage), ("reranked", hits)):
            chosen[f"{name}, {budget:.0%} of the tokens"] = fill_context(ordered, max(1, int(total * budget)))
    for threshold in THRESHOLDS:
        chosen[f"reranked, score >= {threshold}"] = fill_context(hits, max(1, total), threshold=threshold)
    return chosen


def measure(collections: Sequence[Collection], reranker: GLiClassReranker) -> list[dict[str, Any]]:
    """The share of tokens and of answers that each filter leaves, over the questions of all collections."""
    tokens: dict[str, list[float]] = {}
    answers: dict[str, list[bool]] = {}
    for collection in collections:
        for query, text in progress(collection.queries.items(), collection.name):
            ids = collection.candidates[query][:CANDIDATES]
            relevant = {collection.passages[i] for i in ids if collection.qrels[query].get(i, 0) > 0}
            if not relevant:
                continue
            passages = [collection.passages[i] for i in ids]
            first_stage = [RankedPassage(i, 1.0, passage, False) for i, passage in enumerate(passages)]
            total = sum(map(estimate_tokens, passages))
            for rule, chosen in filter_by_rules(reranker.rank(text, passages), first_stage).items():
                tokens.setdefault(rule, []).append(sum(estimate_tokens(hit.text) for hit in chosen) / total)
                answers.setdefault(rule, []).append(any(hit.text in relevant for hit in chosen))
    return [
        {
            "rule": rule,
            "questions": len(shares),
            "tokens kept": round(sum(shares) / len(shares), 3),
            "answers kept": round(sum(answers[rule]) / len(shares), 3),
        }
        for rule, shares in tokens.items()
    ]


def read_answers(folder: Path) -> dict[str, list[str]]:
    """Words that answer each question of a collection: SQuAD's own, or those copied by hand."""
    marked: dict[str, dict[str, list[str]]] = json.loads(ANSWERS.read_text(encoding="utf-8"))
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    given = {row["_id"]: row["answers"] for row in rows if row.get("answers")}
    return given | marked.get(folder.resolve().name, {})


def compare(
    collections: Mapping[Path, Collection], contenders: Mapping[str, Contender]
) -> dict[str, dict[str, dict[str, float]]]:
    """By contender and budget: the share of answers and of relevant passages that it leaves, and its time."""
    outcomes: dict[tuple[str, str], list[tuple[bool, bool, float]]] = {}
    for folder, collection in collections.items():
        answers = read_answers(folder)
        for query, text in progress(collection.queries.items(), f"{collection.name}, sentences"):
            ids = collection.candidates[query][:CANDIDATES]
            relevant = {i for i, passage in enumerate(ids) if collection.qrels[query].get(passage, 0) > 0}
            if not relevant or query not in answers:
                continue
            passages = [collection.passages[i] for i in ids]
            total = sum(map(estimate_tokens, passages))
            for share in SMALL_BUDGETS:
                for name, contender in contenders.items():
                    start = time.perf_counter()
                    texts = contender(text, passages, max(1, int(total * share)))
                    seconds = time.perf_counter() - start
                    left = [" ".join(texts[i].split()) for i in relevant if i in texts]
                    has_answer = any(" ".join(words.split()) in text for text in left for words in answers[query])
                    outcomes.setdefault((name, f"{share:.0%}"), []).append((has_answer, bool(left), seconds))
    compared: dict[str, dict[str, dict[str, float]]] = {}
    for (name, budget), rows in outcomes.items():
        has_answer, has_passage, seconds = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        compared.setdefault(name, {})[budget] = {
            "questions": len(rows),
            "answers kept": round(has_answer, 3),
            "relevant passages touched": round(has_passage, 3),
            "seconds per question": round(seconds, 3),
        }
    return compared


def make_sentence_table(compared: Mapping[str, Mapping[str, Mapping[str, float]]]) -> ResultTable:
    """What each contender keeps of the answers, and what it costs."""
    header = ["", *(f"answers at {share:.0%} of the tokens" for share in SMALL_BUDGETS), "time per question"]
    rows = []
    for name, by_budget in compared.items():
        shares = [f"{row['answers kept']:.1%}" for row in by_budget.values()]
        rows.append([name, *shares, f"{max(row['seconds per question'] for row in by_budget.values()):.2f} s"])
    return make_table(header, rows)


def make_tables(rows: Sequence[dict[str, Any]]) -> dict[str, ResultTable]:
    """What budgets keep of the answers, in the first stage's order and reranked, and what thresholds keep."""
    by_budget: dict[str, dict[str, str]] = {}
    by_threshold = []
    for row in rows:
        order, rule = row["rule"].split(", ")
        if "tokens" in rule:
            by_budget.setdefault(rule, {})[order] = f"{row['answers kept']:.1%}"
        else:
            by_threshold.append([rule.replace(">=", "≥"), f"{row['tokens kept']:.1%}", f"{row['answers kept']:.1%}"])
    budgets = [[rule, shares["first stage"], shares["reranked"]] for rule, shares in by_budget.items()]
    return {
        "budgets": make_table(["budget", "BM25", "reranked"], budgets),
        "thresholds": make_table(["threshold", "tokens kept", "answers kept"], by_threshold),
    }


def main() -> None:
    """Measure, print a table and write results/context_window.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+")
    parser.add_argument("--queries", type=int, help="questions per collection, drawn at random (default: all)")
    parser.add_argument("--encoder", type=Path, help="folder of a sentence encoder, for the frameworks' own filters")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained()
    collections = {folder: read_collection(folder, queries=options.queries) for folder in options.collections}
    rows = measure(list(collections.values()), reranker)
    compared = compare(collections, make_contenders(reranker, options.encoder))
    tables = {**make_tables(rows), "sentences": make_sentence_table(compared)}
    for name, table in tables.items():
        print_table(table, name)
    write_result("context_window", {"candidates": CANDIDATES, "rules": rows, "compared": compared, "tables": tables})


if __name__ == "__main__":
    main()
