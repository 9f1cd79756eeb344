"""Load thousands of mutated checkpoints: each scores, or is a CheckpointError, within 2 GB and 10 seconds.

    python -m benchmarks.fuzz_checkpoints [--mutations 20000] [--first 0]

A mutant's number is its seed. Prints the mutants that went wrong and writes results/fuzz_checkpoints.json.
``tests/checkpoint_mutations.py`` says what a mutant may do.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank.data.progress import progress
from tests.checkpoint_mutations import MEMORY_BYTES, MUTATIONS, SECONDS, Outcome, run, write_twins


def main() -> None:
    """Run the mutants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    options = parser.parse_args()
    console = Console()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        write_twins(Path(folder))
        mutants = run(Path(folder), options.first, options.first + options.mutations)
        for outcome in progress(mutants, "mutants", total=options.mutations):
            outcomes.append(outcome)
            if not outcome.fine:
                console.print(outcome)
    counts = {name: Counter(o.result for o in outcomes if o.mutation.startswith(name)) for name in MUTATIONS}
    results = sorted({outcome.result for outcome in outcomes})
    rows = [[name, *(count[result] for result in results)] for name, count in counts.items()]
    table = make_table(["mutation", *results], rows)
    print_table(table)
    wrong = [asdict(outcome) for outcome in outcomes if not outcome.fine]
    write_result(
        "fuzz_checkpoints",
        {
            "first": options.first,
            "mutations": len(outcomes),
            "memory_bytes": MEMORY_BYTES,
            "seconds": SECONDS,
            "results": dict(Counter(outcome.result for outcome in outcomes)),
            "by_mutation": {name: dict(count) for name, count in counts.items()},
            "wrong": wrong,
            "table": table,
        },
    )


if __name__ == "__main__":
    main()
