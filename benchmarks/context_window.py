"""Measures filtering for a context window: the tokens it leaves, and the questions whose answer it leaves.

    python -m benchmarks.context_window COLLECTION... [--queries 100]

Each question has 20 candidates. A filter fills a budget (a fraction of their tokens) in the first stage's
order or in the reranked one, or applies a threshold. A question counts if a relevant passage is among its
candidates, and keeps its answer if the filter leaves a relevant passage. The script prints a table and
writes results/context_window.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results_file import ResultTable, make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker, RankedPassage, fill_context
from gliclass_rerank.context import estimate_tokens
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import Collection, read_collection

CANDIDATES = 20
BUDGETS = (0.1, 0.2, 0.4)
THRESHOLDS = (0.3, 0.5, 0.7)


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
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained()
    rows = measure([read_collection(folder, queries=options.queries) for folder in options.collections], reranker)
    tables = make_tables(rows)
    for name, table in tables.items():
        print_table(table, name)
    write_result("context_window", {"candidates": CANDIDATES, "rules": rows, "tables": tables})


if __name__ == "__main__":
    main()
