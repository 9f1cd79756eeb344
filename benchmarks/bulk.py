"""Measure bulk scoring, and check that a killed and resumed run gives the same output as a run without a stop.

    python -m benchmarks.bulk [--pairs 100000] [--poison 0.01]

Writes pairs of short random passages, some of which cannot be scored. Scores them with ``gliclass-rerank bulk``, and
again in a run that is killed half-way and resumed. Ray listens on all addresses of the machine meanwhile. Prints the
time and memory, writes results/bulk.json, and fails if a row is missing, moved or wrongly marked.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.results_file import make_table, write_result
from benchmarks.speed import whole_words
from gliclass_rerank.engine.checkpoint import load_checkpoint

MIN_WORDS, MAX_WORDS = 15, 35
POISON: tuple[Any, ...] = ({"passage": None}, {"query": ""}, {"passage": 7}, "no JSON {", {"query": "q " * 600})


def write_pairs(path: Path, pairs: int, poison: float) -> set[int]:
    """Write the rows; return the numbers of the rows that cannot be scored."""
    rng, words = random.Random(0), whole_words(load_checkpoint().tokenizer)
    bad = set(rng.sample(range(pairs), int(pairs * poison)))
    with path.open("w", encoding="utf-8") as file:
        for number in range(pairs):
            passage = " ".join(rng.choices(words, k=rng.randint(MIN_WORDS, MAX_WORDS)))
            row = {"id": number, "query": " ".join(rng.choices(words, k=6)), "passage": passage}
            spoiled = rng.choice(POISON) if number in bad else {}
            file.write((spoiled if isinstance(spoiled, str) else json.dumps(row | spoiled)) + "\n")
    return bad


def run(source: Path, output: Path, stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Score the rows in a new process, killed once ``stop`` returns True; return its seconds and a worker's memory."""
    command = [sys.executable, "-m", "gliclass_rerank.cli", "bulk", str(source), str(output)]
    memory: list[int] = []
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            memory += workers_memory()
            if stop():
                process.kill()
            threading.Event().wait(0.5)
    quarter = memory[: max(len(memory) // 4, 1)]
    return {
        "exit status": process.returncode,
        "seconds": round(time.monotonic() - start, 1),
        "a worker's MB, first quarter": max(quarter, default=0),
        "a worker's MB, at most": max(memory, default=0),
    }


def workers_memory() -> Iterator[int]:
    """Memory of each running worker in MB (Linux only)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cmdline").read_bytes().startswith(b"ray::MapWorker"):
                pages = int(process.joinpath("statm").read_text().split()[1])
                yield pages * 4096 >> 20
        except OSError:  # the process ended meanwhile
            continue


def read_parts(folder: Path) -> Iterator[str]:
    """Yield the lines of all parts in order."""
    for part in sorted(folder.glob("part-*.jsonl")):
        with part.open(encoding="utf-8") as lines:
            yield from lines


def main() -> None:
    """Run, check, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--poison", type=float, default=0.01)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, whole, halves = (Path(folder, name) for name in ("pairs.jsonl", "whole", "halves"))
        bad = write_pairs(source, options.pairs, options.poison)
        at_once = run(source, whole)
        half = options.pairs // 1000 // 2  # parts of 1,000 rows
        killed = run(source, halves, stop=lambda: len(list(halves.glob("part-*.jsonl"))) >= half)
        resumed = run(source, halves)
        rows = [json.loads(line) for line in read_parts(whole)]
        checks = {
            "every row is there": len(rows) == options.pairs,
            "in order": all(row.get("id", number) == number for number, row in enumerate(rows)),
            "poison is marked, nothing else": {i for i, row in enumerate(rows) if row["error"]} == bad,
            "it was killed": killed["exit status"] != 0,
            "resumed, the output is the same": list(read_parts(whole)) == list(read_parts(halves)),
        }
    result: dict[str, Any] = {
        "pairs": options.pairs,
        "poison": len(bad),
        "checks": checks,
        "at once": at_once,
        "killed half-way": killed,
        "resumed": resumed,
    }
    header = ["run", "seconds", "a worker's MB in the first quarter", "at most"]
    keys = ("seconds", "a worker's MB, first quarter", "a worker's MB, at most")
    runs = {"at once": at_once, "killed half-way": killed, "resumed": resumed}
    result["table"] = make_table(header, [[name, *(run[key] for key in keys)] for name, run in runs.items()])
    console = Console()
    console.print(result)
    console.print(f"written to {write_result('bulk', result)}")
    if not all(checks.values()):
        failures = ", ".join(name for name, holds in checks.items() if not holds)
        sys.exit(f"failed: {failures}")


if __name__ == "__main__":
    main()
