"""``gliclass-rerank bulk``: score a file of any size, in parts, with Ray Data."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gliclass_rerank.cli.terminal import errors, errors_in_one_line
from gliclass_rerank.optional import require
from gliclass_rerank.options import RerankerOptions


def bulk(
    source: Annotated[
        Path, typer.Argument(help="Rows of a query and a passage or passages: .jsonl or .parquet.", metavar="FILE")
    ],
    output: Annotated[Path, typer.Argument(help="Folder for the scored parts.", metavar="FOLDER")],
    model: Annotated[str | None, typer.Option(help="Hub name or folder; the bundled model without it.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the best there is without it.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of query and passage.")] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Read passages that do not fit in overlapping windows, not cut.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Models that work at a time.")] = 1,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each of them, or the share of one; one each without it.")
    ] = None,
    rows_per_part: Annotated[int, typer.Option(min=1, help="Rows that a stopped run may have to do again.")] = 1000,
) -> None:
    """Score the rows of FILE into the parts in FOLDER.

    Each row gets a "score" (or "scores"), or an "error" where it cannot be scored. A run that was
    stopped goes on where it was when it is started again. It runs on the Ray cluster that there is, or that
    RAY_ADDRESS names; without one, on this machine.
    """
    with errors_in_one_line():
        require("ray.data", extra="ray")
        from gliclass_rerank.bulk.job import run_bulk

        options = RerankerOptions(
            model, device, max_length=max_length, long_passages="windows" if windows else "truncate"
        )
        columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=errors, disable=not errors.is_terminal) as bar:
            task = bar.add_task("scoring", total=None)
            for progress in run_bulk(
                source, output, options, workers=workers, gpus_per_worker=gpus_per_worker, rows_per_part=rows_per_part
            ):
                bar.update(task, completed=progress.done, total=progress.rows)
        json.dump(asdict(progress), sys.stdout)
        sys.stdout.write("\n")
