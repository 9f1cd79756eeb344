"""Compare with the official pipeline over every combination of options that it can run.

    python -m benchmarks.parity [--every 1] [--encoders bert modernbert deberta-v2]

Checkpoints have random weights and are written by the official library; its scores are taken at
batch size 1. Prints a table and writes results/parity.json.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from tests.random_checkpoints import ENCODERS, OfficialPipeline, full_grid, write_checkpoint

QUERY = "does bread rise?"
PASSAGES = (
    "Bread rises because yeast makes gas.",
    "  two    spaces and a naïve café",
    "Leaves turn light into sugar. " * 4,
)


def worst_difference(encoder: str, options: dict[str, Any]) -> float:
    """The largest difference between our scores and the official ones for one checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder), encoder, **options)
        official = OfficialPipeline(checkpoint).score(QUERY, PASSAGES)
        ours = GLiClassReranker.from_pretrained(checkpoint, device="cpu", dtype="float32").score(QUERY, PASSAGES)
    return max(abs(a - b) for a, b in zip(official, ours, strict=True))


def start_worker() -> None:
    """One thread each: the networks are tiny."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="take only every n-th combination")
    parser.add_argument("--encoders", nargs="+", choices=list(ENCODERS), default=list(ENCODERS))
    options = parser.parse_args()
    rows = []
    grid = list(full_grid())[:: options.every]
    for encoder in options.encoders:
        with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=start_worker) as pool:
            done = pool.map(partial(worst_difference, encoder), grid, chunksize=20)
            differences = list(progress(done, encoder, total=len(grid)))
        above = sum(d > 1e-5 for d in differences)
        rows.append({"encoder": encoder, "configs": len(grid), "largest": max(differences), "above": above})
    header = ["encoder", "configs", "largest difference", "above 1e-05"]
    cells = [[row["encoder"], row["configs"], f"{row['largest']:.1e}", row["above"]] for row in rows]
    table = make_table(header, cells)
    print_table(table)
    write_result("parity", {"tolerance": 1e-5, "encoders": rows, "table": table})


if __name__ == "__main__":
    main()
