"""``gliclass-rerank bulk``: score a file of any size with Ray Data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gliclass_rerank.cli.options import Device, MaxLength, Model, Windows
from gliclass_rerank.cli.terminal import errors_in_one_line, print_note
from gliclass_rerank.data.progress import progress_bar
from gliclass_rerank.optional import require
from gliclass_rerank.options import RerankerOptions


def bulk(
    source: Annotated[
        Path,
        typer.Argument(help="Rows with a query and a passage or passages: .jsonl or .parquet.", metavar="FILE"),
    ],
    output: Annotated[Path, typer.Argument(help="Folder for the scored parts.", metavar="FOLDER")],
    model: Model = None,
    device: Device = None,
    max_length: MaxLength = None,
    windows: Windows = False,
    workers: Annotated[int, typer.Option(min=1, help="Copies of the model that run in parallel.")] = 1,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="GPUs for each worker, or a fraction of one. Default: one, if present.")
    ] = None,
    rows_per_part: Annotated[
        int, typer.Option(min=1, help="Rows per part; a resumed run repeats at most one part per worker.")
    ] = 1000,
) -> None:
    """Score the rows of FILE into parts in FOLDER.

    Each row gets a "score" (or "scores"), or an "error" if it cannot be scored. To resume a run that was stopped,
    start it again. It runs on the Ray cluster of RAY_ADDRESS, or else on this machine.
    """
    with errors_in_one_line():
        require("ray.data", extra="ray")
        from gliclass_rerank.bulk.job import run_bulk

        options = RerankerOptions(
            model, device, max_length=max_length, long_passages="windows" if windows else "truncate"
        )
        runs = run_bulk(
            source, output, options, workers=workers, gpus_per_worker=gpus_per_worker, rows_per_part=rows_per_part
        )
        progress = next(runs)
        for part in progress.damaged:
            print_note(f"{part}; it is scored again")
        with _native_messages_in(output / "ray.log"), progress_bar("scoring", progress.rows) as advance:
            advance(progress.done)
            for update in runs:
                advance(update.done - progress.done)
                progress = update
        json.dump(asdict(progress), sys.stdout)
        sys.stdout.write("\n")


@contextmanager
def _native_messages_in(log: Path) -> Iterator[None]:
    """Send what Ray's native code writes to standard error into a file, which stays only if the block fails.

    Ray's messages look like failures even if all is well, and no setting of Ray silences them. A worker's error
    arrives as an exception.
    """
    with os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace") as terminal:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
        try:
            with redirect_stderr(terminal):
                yield
        finally:
            terminal.flush()
            os.dup2(terminal.fileno(), 2)
    log.unlink()
