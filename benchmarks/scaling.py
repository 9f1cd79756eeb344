"""What more passages, passages seen before, and the first call cost this engine.

    python -m benchmarks.scaling [--model FOLDER] [--repeats 5]

- Time of 1,000 passages against 100, and of a second call over the same passages with a new query: against the
  first one, and how much of it lies outside the forward passes (reading, checking, sorting).
- Peak memory of a process that ranks 10,000 passages, against 1,000.
- ``gliclass-rerank rank`` over 10 passages, against ``import torch`` and of transformers' BertModel alone.

Passages have 180 tokens on average. Prints a table and writes results/scaling.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.memory import peak_megabytes
from benchmarks.results_file import write_result
from benchmarks.speed import make_draw
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.checkpoint import load_checkpoint

TOKENS = 180
IMPORT = [sys.executable, "-c", "import torch; from transformers import BertModel"]


def clock_forward(reranker: GLiClassReranker, query: str, passages: list[str]) -> tuple[float, float]:
    """Seconds of a call, and of the forward passes in it."""
    scorer = reranker.engine.model.scorer
    run, inside = scorer._run, 0.0

    def timed(*arguments: Any) -> Any:  # noqa: ANN401 - the scorer's
        nonlocal inside
        start = perf_counter()
        found = run(*arguments)
        inside += perf_counter() - start
        return found

    scorer._run = timed  # type: ignore[method-assign, assignment]
    try:
        start = perf_counter()
        reranker.rank(query, passages)
        return perf_counter() - start, inside
    finally:
        del scorer._run  # the class's is there again


def measure_time(model: str | None, repeats: int) -> dict[str, float]:
    """Times of few and of many fresh passages, and of passages seen before; of these the share outside the forward."""
    reranker = GLiClassReranker.from_pretrained(model)
    tokenizer = load_checkpoint(model).tokenizer
    few, many = make_draw(tokenizer, 100, TOKENS), make_draw(tokenizer, 1000, TOKENS)
    reranker.rank(*few())
    times: dict[str, list[float]] = {
        name: [] for name in ("100 passages", "1,000 passages", "100 seen before", "outside the forward, seen before")
    }
    for _ in progress(range(repeats), "time"):
        times["1,000 passages"].append(clock_forward(reranker, *many())[0])
        query, passages = few()
        times["100 passages"].append(clock_forward(reranker, query, passages)[0])
        whole, inside = clock_forward(reranker, few()[0], passages)
        times["100 seen before"].append(whole)
        times["outside the forward, seen before"].append((whole - inside) / whole)
    return {name: round(median(values), 4) for name, values in times.items()}


def peak_memory(model: str | None, passages: int) -> float:
    """MB that a process of its own takes at most while it ranks so many passages."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--only-rank", str(passages)]
    done = subprocess.run(
        [*command, *(["--model", model] if model else [])], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def cold_start(model: str | None, repeats: int) -> dict[str, float]:
    """Seconds of the command line over ten passages, and of the imports that it cannot do without."""
    times: dict[str, list[float]] = {"gliclass-rerank rank": [], "imports alone": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "passages")
        path.write_text("\n".join(make_draw(load_checkpoint().tokenizer, 10, TOKENS)()[1]))
        rank = [sys.executable, "-m", "gliclass_rerank.cli", "rank", "what is it about", str(path)]
        rank += ["--model", model] if model else []
        for _ in progress(range(repeats), "cold start"):
            for name, command in (("gliclass-rerank rank", rank), ("imports alone", IMPORT)):
                start = perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                times[name].append(perf_counter() - start)
    return {name: round(median(values), 3) for name, values in times.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write results/scaling.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub name or folder; the bundled model without it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only-rank", type=int, help=argparse.SUPPRESS)  # in the process whose memory is measured
    options = parser.parse_args(arguments)
    if options.only_rank:
        draw = make_draw(load_checkpoint(options.model).tokenizer, options.only_rank, TOKENS)
        GLiClassReranker.from_pretrained(options.model).rank(*draw())
        sys.stdout.write(str(peak_megabytes()))
        return
    memory = {count: peak_memory(options.model, count) for count in progress((1000, 10_000), "memory")}
    time, start = measure_time(options.model, options.repeats), cold_start(options.model, options.repeats)
    ratios = {
        "time of 1,000 passages / of 100": time["1,000 passages"] / time["100 passages"],
        "time of passages seen before / of fresh ones": time["100 seen before"] / time["100 passages"],
        "share outside the forward, passages seen before": time["outside the forward, seen before"],
        "peak memory of 10,000 passages / of 1,000": memory[10_000] / memory[1000],
        "command line / imports alone": start["gliclass-rerank rank"] / start["imports alone"],
    }
    table = Table("what", "ratio")
    for name, ratio in ratios.items():
        table.add_row(name, f"{ratio:.3f}")
    Console().print(table)
    write_result(
        "scaling",
        {
            "measured, seconds unless a share": {**time, **start},
            "peak memory in MB": {str(count): round(value, 1) for count, value in memory.items()},
            "ratios": {name: round(ratio, 4) for name, ratio in ratios.items()},
        },
    )


if __name__ == "__main__":
    main()
