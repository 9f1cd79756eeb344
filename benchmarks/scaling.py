"""Measure how time and memory grow with the number of passages, and what the first call costs.

    python -m benchmarks.scaling [--model FOLDER] [--repeats 5]

- Time of 1,000 passages compared with 100, and the share of it outside the forward passes (tokenizing,
  checking, sorting).
- Peak memory of a process that ranks 10,000 passages, compared with 1,000.
- ``gliclass-rerank rank`` over 10 passages, compared with importing torch and transformers' BertModel alone.

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

from benchmarks.memory import peak_megabytes
from benchmarks.results_file import make_table, print_table, write_result
from benchmarks.speed import make_draw
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.checkpoint import load_checkpoint
from gliclass_rerank.engine.loading import LoadedModel
from gliclass_rerank.engine.scorer import GLiClassScorer
from gliclass_rerank.options import RerankerOptions

TOKENS = 180
IMPORT = [sys.executable, "-c", "import torch; from transformers import BertModel"]


class TimedScorer(GLiClassScorer):
    """A scorer that adds up the seconds of its forward passes."""

    seconds = 0.0

    def logits(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - those of the scorer
        """Score sequences, and add the time."""
        start = perf_counter()
        logits = super().logits(*arguments, **options)
        self.seconds += perf_counter() - start
        return logits


def measure_time(model: str | None, repeats: int) -> dict[str, float]:
    """Seconds for 100 and for 1,000 fresh passages, and the share of the latter outside the forward passes."""
    checkpoint = load_checkpoint(model)
    scorer = TimedScorer(checkpoint.network)
    reranker = GLiClassReranker(LoadedModel(checkpoint, scorer), RerankerOptions(model))
    draws = {count: make_draw(checkpoint.tokenizer, count, TOKENS) for count in (100, 1000)}
    reranker.rank(*draws[100]())
    times: dict[str, list[float]] = {"100 passages": [], "1,000 passages": [], "outside the forward": []}
    for _ in progress(range(repeats), "time"):
        for count, draw in draws.items():
            query, passages = draw()
            scorer.seconds, start = 0.0, perf_counter()
            reranker.rank(query, passages)
            seconds = perf_counter() - start
            times[f"{count:,} passages"].append(seconds)
        times["outside the forward"].append(1 - scorer.seconds / seconds)
    return {name: round(median(values), 4) for name, values in times.items()}


def peak_memory(model: str | None, passages: int) -> float:
    """Peak MB of a process that ranks so many passages."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--only-rank", str(passages)]
    done = subprocess.run(
        [*command, *(["--model", model] if model else [])], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def cold_start(model: str | None, repeats: int) -> dict[str, float]:
    """Seconds of the command line over ten passages, and of the imports it needs."""
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
    parser.add_argument("--model", help="hub name or folder; default: the bundled model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only-rank", type=int, help=argparse.SUPPRESS)  # for the process whose memory is measured
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
        "share of that outside the forward passes": time["outside the forward"],
        "peak memory of 10,000 passages / of 1,000": memory[10_000] / memory[1000],
        "command line / imports alone": start["gliclass-rerank rank"] / start["imports alone"],
    }
    table = make_table(["", "ratio"], [[name, f"{ratio:.3f}"] for name, ratio in ratios.items()])
    print_table(table)
    write_result(
        "scaling",
        {
            "measured, seconds unless a share": {**time, **start},
            "peak memory in MB": {str(count): round(value, 1) for count, value in memory.items()},
            "ratios": {name: round(ratio, 4) for name, ratio in ratios.items()},
            "table": table,
        },
    )


if __name__ == "__main__":
    main()
