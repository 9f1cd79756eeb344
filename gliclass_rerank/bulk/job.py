"""Score a file of any size with Ray Data, in parts: each is written when it is done, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from gliclass_rerank.bulk.part_files import Part, Scored, open_part_file
from gliclass_rerank.bulk.rows import RowScorer
from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.engine.checkpoint import find_checkpoint
from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.validation import check_count

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
    gpus_per_worker: float | None = None,
    rows_per_part: int = 1000,
) -> Iterator[BulkProgress]:
    """Score the rows of a file into a folder of parts.

    The parts, part-00000.jsonl or .parquet and so on, have the file's rows in its order. Each row has "score"
    (or "scores") and "error" beside what it had; one that cannot be scored keeps its place. A run that was
    stopped goes on with the parts that are missing when it is started again with the same arguments. It
    runs on the Ray cluster that there is, or that RAY_ADDRESS names; without one, on this machine.

    Args:
        source: JSON lines (.jsonl) or Parquet (.parquet), with "query" and "passage" or "passages" in each row.
        output: The folder. Workers on other machines need to find it and the file by the same paths.
        options: Which model, and how it runs; None for the bundled one as it comes.
        workers: How many models work at a time.
        gpus_per_worker: How many GPUs each of them gets, or which share of one; None for one where there are
            GPUs and ``options.device`` is not the CPU.
        rows_per_part: How many rows a worker does again at most when a run goes on.

    Yields:
        How far it is: with what an earlier run did, and then after each part.

    Raises:
        CheckpointError: The model cannot be found.
        OSError: The file cannot be read, or the folder not be written.
        RuntimeError: A worker failed over something else than what a row holds.
        ValueError: The file is of no known kind or lacks columns, the folder holds another run, or a number
            is not positive.

    Example:
        >>> for progress in run_bulk("pairs.jsonl", "scored"):  # doctest: +SKIP
        ...     print(progress)
    """
    check_count("workers", workers)
    check_count("rows_per_part", rows_per_part)
    source, output, options = Path(source).resolve(), Path(output).resolve(), options or RerankerOptions()
    find_checkpoint(options.model, revision=options.revision)  # said here, not by each worker; fetched once
    if options.model is not None and Path(options.model).is_dir():
        options = replace(options, model=str(Path(options.model).resolve()))  # workers may be elsewhere
    file = open_part_file(source)
    parts = list(file.parts(rows_per_part))
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    _open_run(output, {"source": digest, "rows_per_part": rows_per_part, **asdict(options)})
    rows, done, failed = sum(part.rows for part in parts), 0, 0
    left = []
    for part in parts:
        path = _path_of(part, output, source.suffix)
        if path.exists():
            done, failed = done + part.rows, failed + file.count_errors(path)
        else:
            left.append(part)
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


def _path_of(part: Part, output: Path, suffix: str) -> Path:
    return output / f"part-{part.number:07}{suffix}"


def _score_parts(
    parts: list[Part],
    source: Path,
    output: Path,
    options: RerankerOptions,
    workers: int,
    gpus_per_worker: float | None,
) -> Iterator[dict[str, int]]:
    with _running_ray():
        workers = min(workers, len(parts))
        every: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in every if node["Alive"]]
        cpus = min(node.get("CPU", 1.0) for node in nodes)  # a worker has to fit on one of them
        if gpus_per_worker is None:
            gpus_per_worker = float(options.device != "cpu" and any(node.get("GPU") for node in nodes))
        scored = ray.data.from_items([asdict(part) for part in parts], override_num_blocks=len(parts)).map_batches(
            _PartScorer,
            fn_constructor_args=(source, output, options),
            compute=ActorPoolStrategy(size=workers),
            batch_size=1,
            num_cpus=max(int(cpus) // -(-workers // len(nodes)), 1),
            num_gpus=gpus_per_worker,
            # A part that kills its workers must not do so for ever.
            ray_remote_args_fn=lambda: {"max_restarts": 3, "max_task_retries": 3},
        )
        try:
            yield from scored.iter_rows()
        except RayError as error:
            cause = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
            raise RuntimeError(f"a worker failed, and what is done is kept: {cause}") from error


@contextmanager
def _running_ray() -> Iterator[None]:
    """Ray as it runs, or for as long as it is needed."""
    context, was_running = DataContext.get_current(), ray.is_initialized()
    before = context.enable_progress_bars, context.memory_usage_poll_interval_s
    context.enable_progress_bars = False  # the caller's says more
    context.memory_usage_poll_interval_s = None  # a look at a model's memory holds it up
    if not was_running:
        ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        context.enable_progress_bars, context.memory_usage_poll_interval_s = before
        if not was_running:
            ray.shutdown()


class _PartScorer:
    """A worker: its model, and what it does with each part that it gets."""

    def __init__(self, source: Path, output: Path, options: RerankerOptions) -> None:
        self._file, self._output, self._suffix = open_part_file(source), output, source.suffix
        self._scorer = RowScorer(options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        part = Part(**{name: int(value) for name, [value] in batch.items()})
        failed = 0

        def scored() -> Iterator[Scored]:
            nonlocal failed
            for rows in self._file.read(part):
                found = self._scorer.score(self._file.rows(rows))
                failed += sum(of_row["error"] is not None for of_row in found)
                yield rows, found

        with atomic_write(_path_of(part, self._output, self._suffix)) as unfinished:
            self._file.write(unfinished, scored())
        return {"rows": [part.rows], "failed": [failed]}
