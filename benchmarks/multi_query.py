"""How long several queries take over the same passages: as labels of one prompt, and one after another.

    python -m benchmarks.multi_query [--shape bundled edge modern-base modern-large base large]
        [--queries 2 4 8] [--words 10 30] [--passages 100] [--tokens 180] [--repeats 5] [--device cuda]

Without options: the bundled model, 100 passages of 180 tokens on average, queries of 10 tokens.
All ways take turns on the same fresh words, those of ``benchmarks.speed``. The passes of several
queries have more tokens than those of one; their ratio says what these alone should cost. Prints
a table and writes results/multi_query.json and .png.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.table import Table

from benchmarks.plots import save_bars
from benchmarks.results_file import write_result
from benchmarks.shapes import SHAPES, make_shape
from benchmarks.speed import CONTROL_TOKENS, Score, make_draw, race
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.engine.checkpoint import load_checkpoint


def rotations(query: str, count: int) -> list[str]:
    """So many queries out of one: its words, beginning at another one each time."""
    words = query.split()
    return [" ".join([*words[i:], *words[:i]]) for i in range(count)]


def score(reranker: GLiClassReranker, count: int, query: str, passages: list[str], *, together: bool) -> list[float]:
    """Score so many queries, in one prompt or each in its own."""
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


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table: a line for each way in each case."""
    columns = ("median", "times one query", "times its tokens")
    table = Table("shape", "tokens of a query", "queries", *columns)
    for row in rows:
        table.add_row(row["shape"], str(row["words"]), row["contender"], *(f"{row[column]:.2f}" for column in columns))
    Console().print(table)


def main() -> None:
    """Measure, print a table and write results/multi_query.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=("bundled", *SHAPES), default=["bundled"])
    parser.add_argument("--queries", type=int, nargs="+", default=[2, 4, 8], help="how many together")
    parser.add_argument("--words", type=int, nargs="+", default=[10], help="of a query, a token each")
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=180, help="of a passage, on average")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps; the best there is without it")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    rows = []
    with tempfile.TemporaryDirectory() as made:
        for shape in options.shape:
            folder = make_shape(shape, Path(made))
            for words in options.words:
                rows += measure(shape, words, folder, options)
    show(rows)
    write_result("multi_query", {"passages": options.passages, "tokens": options.tokens, "ways": rows})
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        group = groups.setdefault(f"{row['shape']}\nqueries of {row['words']}", {})
        group[row["contender"].replace(", ", " queries ")] = row["median"]
    save_bars("multi_query", groups, f"seconds for {options.passages} passages of {options.tokens} tokens")


if __name__ == "__main__":
    main()
