"""How often does a passage that says nothing beat a right one?

    python -m benchmarks.junk COLLECTION... [--model FOLDER] [--queries 200] [--result junk]

Crawlers and PDF readers fill a corpus with placeholders, menus, cookie banners, tables of contents and error pages.
Each query is scored over its relevant passages and over passages of every such kind. A kind beats the best right
passage if one of its passages scores higher than all relevant ones, and beats a right passage if it scores higher
than one of them. The last kind repeats the query, so it is counted apart. The queries are drawn at random, equally
many of each collection. Prints a table and writes results/junk.json, or the name that --result gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.evaluation import Collection, read_collection

SEED = 0
JUNK = {
    "placeholders": (
        "n/a",
        "N/A N/A N/A",
        "-",
        "...",
        "None",
        "null",
        "TODO",
        "[image]",
        "(no content)",
        "This page intentionally left blank.",
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
        "Coming soon. Check back later!",
    ),
    "menus": (
        "Home | Products | Pricing | Docs | Blog | About us | Contact | Log in",
        "Skip to main content. Menu. Search. Close. Previous. Next. Back to top.",
        "Share this page: Facebook Twitter LinkedIn WhatsApp Email Print",
        "© 2024 All rights reserved. Terms of use. Privacy policy. Imprint. Sitemap.",
    ),
    "cookie banners": (
        "We use cookies to improve your experience. Accept all | Reject all | Manage settings",
        "By continuing to use this site you agree to our use of cookies. Learn more. OK",
        "Sign up for our newsletter! Enter your email address. You can unsubscribe at any time.",
        "Please log in or create an account to read this article. Already a member? Sign in.",
    ),
    "tables of contents": (
        "Contents 1 Introduction 2 Background 3 Methods 4 Results 5 Discussion 6 Conclusion References",
        "Table of contents .......... 1  Overview .......... 3  Getting started .......... 5  Appendix .......... 97",
        "See also. References. Further reading. External links. Categories.",
        "Page 12 of 48",
        "Figure 3. Table 2. Figure 4. Table 3.",
    ),
    "error pages": (
        "404 Not Found. The page you requested could not be found.",
        "403 Forbidden. You don't have permission to access this resource.",
        "Something went wrong. Please try again later.",
        "Please enable JavaScript to view this page.",
        "Are you a robot? Complete the check below to continue.",
    ),
}
ECHO = "a search page that repeats the query"
ECHOES = ("Search results for “{query}”: 0 results.", "{query} Sort by: relevance | date. Page 1 of 1. No results.")
LEVELS = ("the best right passage", "a right passage")


def score_query(query: str, right: Sequence[str], reranker: GLiClassReranker) -> dict[str, tuple[float, float, float]]:
    """For each kind of junk its highest score, and the highest and the smallest score of right passages."""
    kinds = {**JUNK, ECHO: tuple(text.format(query=query) for text in ECHOES)}
    scores = reranker.score(query, [*right, *(text for texts in kinds.values() for text in texts)])
    right_scores, rest = scores[: len(right)], iter(scores[len(right) :])
    best, worst = max(right_scores), min(right_scores)
    return {kind: (max(next(rest) for _ in texts), best, worst) for kind, texts in kinds.items()}


def measure_junk(collections: Sequence[Collection], reranker: GLiClassReranker) -> list[dict[str, Any]]:
    """One row for each query and each kind: the scores of junk and of right passages."""
    rows: list[dict[str, Any]] = []
    for collection in collections:
        for query, text in progress(collection.queries.items(), collection.name):
            right = [collection.passages[i] for i, grade in collection.qrels[query].items() if grade > 0]
            for kind, (junk, best, worst) in score_query(text, right, reranker).items():
                scores = {"junk": round(junk, 4), "best right": round(best, 4), "worst right": round(worst, 4)}
                beaten = {LEVELS[0]: junk > best, LEVELS[1]: junk > worst}
                rows.append({"collection": collection.name, "query": query, "kind": kind, **scores, **beaten})
    return rows


def count_beaten(rows: Sequence[dict[str, Any]], kinds: Sequence[str]) -> dict[str, int]:
    """In how many queries a passage of some kinds beats the best right passage, or any."""
    return {
        level: len({(row["collection"], row["query"]) for row in rows if row["kind"] in kinds and row[level]})
        for level in LEVELS
    }


def main() -> None:
    """Measure, print a table and write results/junk.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+")
    parser.add_argument("--model", help="hub name or folder; default: the bundled model")
    parser.add_argument("--queries", type=int, default=200, help="queries of all collections together")
    parser.add_argument("--result", default="junk", help="name of the file in results/")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained(options.model)
    share = -(-options.queries // len(options.collections))
    collections = [read_collection(folder, queries=share, seed=SEED) for folder in options.collections]
    rows = measure_junk(collections, reranker)
    queries = len({(row["collection"], row["query"]) for row in rows})
    groups = {**{kind: [kind] for kind in JUNK}, "**any of these**": [*JUNK], ECHO: [ECHO]}
    counts = {name: count_beaten(rows, kinds) for name, kinds in groups.items()}
    cells = [[name, *(f"{count[level]} of {queries}" for level in LEVELS)] for name, count in counts.items()]
    table = make_table(["junk", *(f"beats {level}" for level in LEVELS)], cells)
    print_table(table, "queries in which junk scores higher")
    beaten = [row for row in rows if row[LEVELS[1]]]
    write_result(options.result, {"queries": queries, "counts": counts, "beaten": beaten, "table": table})


if __name__ == "__main__":
    main()
