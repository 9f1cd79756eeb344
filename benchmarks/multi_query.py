"""How long several queries take over the same passages: as labels of one prompt, and one after another.

    python -m benchmarks.multi_query [--shape bundled edge modern-base modern-large base large]
        [--queries 2 4 8] [--words 10 30] [--passages 100] [--tokens 180] [--repeats 5] [--device cuda]

Without options: the bundled model, 100 passages of 180 tokens on average, queries of 10 tokens.
All ways take turns on the same fresh words, drawn as in ``benchmarks.speed``. Several queries have more tokens
than one; "times its tokens" says how much longer they should take for that alone. Prints a table and writes
results/multi_query.json and .png.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import transformers

from benchmarks.plots import save_bars
from benchmarks.results_file import ResultTable, make_table, print_table, write_result
from benchmarks.shapes import SHAPES, make_shape
from benchmarks.speed import CONTROL_TOKENS, Score, make_draw, race
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.engine.checkpoint import load_checkpoint


def rotations(query: str, count: int) -> list[str]:
    """``count`` queries made from one by rotating its words."""
    words = query.split()
    return [" ".join([*words[i:], *words[:i]]) for i in range(count)]


def score(reranker: GLiClassReranker, count: int, query: str, passages: list[str], *, together: bool) -> list[float]:
    """Score ``count`` queries, in one prompt or each in its own."""
    scores: list[float] = reranker.score_matrix(rotations(query, count), passages, together=together).max(0).tolist()
    return scores


def measure(shape: str, words: int, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one shape and length of queries."""
    reranker = GLiClassReranker.from_pretrained(folder, device=options.device)
    draw = make_draw(load_checkpoint(folder).tokenizer, options.passages, options.tokens, words)
    ways = [(1, False), *((count, together) for count in options.queries for together in (True, False))]
    runners: dict[str, Score] = {
        f"{count}, {'together' if together else 'apart'}": partial(score, reranker, count, together=together)
        for count, together in ways
    }
    rows = race(runners, draw, options.repeats, {"shape": shape, "words": words})
    one = rows[0]["median"]
    for row, (count, together) in zip(rows, ways, strict=True):
        tokens = options.tokens + CONTROL_TOKENS - 1  # a control token for each query
        passes, per_pass = (1, count) if together else (count, 1)
        row["times one query"] = round(row["median"] / one, 2)
        row["times its tokens"] = round(passes * (tokens + per_pass * (words + 1)) / (tokens + words + 1), 2)
    return rows


def tabulate(rows: Sequence[dict[str, Any]], queries: Sequence[int]) -> ResultTable:
    """How many times as long as one query several take: a row for each way, a column for each number of queries."""
    ratios: dict[str, list[str]] = {}
    for row in rows:
        count, way = row["contender"].split(", ")
        if count != "1":
            shape = "" if row["shape"] == "bundled" else f"{row['shape']}: "
            name = f"{shape}{way}, {row['words']} tokens each"
            ratios.setdefault(name, []).append(f"{row['times one query']:.2f}")
    return make_table(["", *(f"{count} queries" for count in queries)], [[name, *row] for name, row in ratios.items()])


def main() -> None:
    """Measure, print a table and write results/multi_query.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=("bundled", *SHAPES), default=["bundled"])
    parser.add_argument("--queries", type=int, nargs="+", default=[2, 4, 8], help="numbers of queries")
    parser.add_argument("--words", type=int, nargs="+", default=[10], help="words of a query, one token each")
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=180, help="tokens of a passage, on average")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best one present")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    rows = []
    with tempfile.TemporaryDirectory() as made:
        for shape in options.shape:
            folder = make_shape(shape, Path(made))
            for words in options.words:
                rows += measure(shape, words, folder, options)
    table = tabulate(rows, options.queries)
    print_table(table, "times one query")
    result = {"passages": options.passages, "tokens": options.tokens, "ways": rows}
    write_result("multi_query", result | {"tables": {"several_queries": table}})
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        group = groups.setdefault(f"{row['shape']}\nqueries of {row['words']}", {})
        group[row["contender"].replace(", ", " queries ")] = row["median"]
    save_bars("multi_query", groups, f"seconds for {options.passages} passages of {options.tokens} tokens")


if __name__ == "__main__":
    main()
