"""Score a file of any size with Ray Data, in parts: each is written when it is done, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from gliclass_rerank.atomic_write import atomic_write
from gliclass_rerank.checkpoint import find_checkpoint
from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.serving.part_files import Part, open_part_file
from gliclass_rerank.serving.rows import RowScorer

_RECORD = "bulk.json"  # what a run was started with


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a run is.

    Attributes:
        rows: All rows.
        done: Those that are written.
        failed: Those of them that have an error in place of a score.
    """

    rows: int
    done: int
    failed: int


def run_bulk(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: RerankerOptions | None = None,
    *,
    workers: int = 1,
    gpus_per_worker: float = 0,
    rows_per_part: int = 10_000,
) -> Iterator[BulkProgress]:
    """Score the rows of a file into a folder of parts.

    The parts, part-00000.jsonl or .parquet and so on, have the file's rows in its order. Each row has "score"
    (or "scores") and "error" beside what it had; one that cannot be scored keeps its place. A run that was
    stopped goes on with the parts that are missing when it is started again with the same arguments.

    Args:
        source: JSON lines (.jsonl) or Parquet (.parquet), with "query" and "passage" or "passages" in each row.
        output: The folder. Workers on other machines need to find it and the file by the same paths.
        options: Which model, and how it runs; None for the embedded one as it comes.
        workers: How many models work at a time.
        gpus_per_worker: How many GPUs each of them gets, or which share of one.
        rows_per_part: How many rows a worker does again at most when a run goes on.

    Yields:
        How far it is: with what an earlier run did, and then after each part.

    Raises:
        CheckpointError: The model cannot be found.
        OSError: The file cannot be read, or the folder not be written.
        RuntimeError: A worker failed over something else than what a row holds.
        ValueError: The file is of no known kind, or the folder holds another run.

    Example:
        >>> for progress in run_bulk("pairs.jsonl", "scored"):  # doctest: +SKIP
        ...     print(progress)
    """
    source, output, options = Path(source).resolve(), Path(output).resolve(), options or RerankerOptions()
    file = open_part_file(source)
    find_checkpoint(options.model, revision=options.revision)  # said here, not by each worker; fetched once
    parts = list(file.parts(rows_per_part))
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    _open_run(output, {"source": digest, "rows_per_part": rows_per_part, **asdict(options)})
    left = [part for part in parts if not _path_of(part, source, output).exists()]
    rows = sum(part.rows for part in parts)
    done = rows - sum(part.rows for part in left)
    failed = sum(file.count_errors(path) for part in parts if (path := _path_of(part, source, output)).exists())
    yield BulkProgress(rows, done, failed)
    for row in _score_parts(left, source, output, options, workers, gpus_per_worker) if left else ():
        done, failed = done + row["rows"], failed + row["failed"]
        yield BulkProgress(rows, done, failed)


def _open_run(output: Path, settings: dict[str, Any]) -> None:
    """Keep a run's settings in its folder; one that goes on must have the same."""
    output.mkdir(parents=True, exist_ok=True)
    record = output / _RECORD
    before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else settings
    changed = [
        f"{key} was {before.get(key)!r}, now {value!r}" for key, value in settings.items() if before.get(key) != value
    ]
    if changed:
        raise ValueError(f"{output} holds another run ({'; '.join(changed)}). Choose another output folder.")
    with atomic_write(record) as unfinished:
        unfinished.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _path_of(part: Part, source: Path, output: Path) -> Path:
    return output / f"part-{part.number:05}{source.suffix}"


def _score_parts(
    parts: list[Part], source: Path, output: Path, options: RerankerOptions, workers: int, gpus_per_worker: float
) -> Iterator[dict[str, int]]:
    if not ray.is_initialized():
        # Joins the cluster that RAY_ADDRESS names, or starts one on this machine, without a dashboard.
        ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    DataContext.get_current().enable_progress_bars = False  # the caller's says more
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    workers = min(workers, len(parts))
    scored = ray.data.from_items([asdict(part) for part in parts], override_num_blocks=len(parts)).map_batches(
        _PartScorer,
        fn_constructor_args=(source, output, options),
        compute=ActorPoolStrategy(size=workers),
        batch_size=1,
        num_cpus=max(int(ray.available_resources()["CPU"]) // workers, 1),
        num_gpus=gpus_per_worker,
    )
    try:
        yield from scored.iter_rows()
    except RayError as error:
        raise RuntimeError(f"a worker failed, and what is done is kept: {error}") from error


class _PartScorer:
    """A worker: its model, and what it does with each part that it gets."""

    def __init__(self, source: Path, output: Path, options: RerankerOptions) -> None:
        self._source, self._output, self._scorer = source, output, RowScorer(options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        part = Part(**{name: int(value) for name, [value] in batch.items()})
        file, failed = open_part_file(self._source), 0
        with atomic_write(_path_of(part, self._source, self._output)) as unfinished:
            file.write(unfinished, ((rows, self._scorer.score(rows)) for rows in file.read(part)))
            failed = file.count_errors(unfinished)
        return {"rows": [part.rows], "failed": [failed]}
