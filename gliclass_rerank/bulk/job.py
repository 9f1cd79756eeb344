"""Score a file of any size with Ray Data, part by part, so that a run that was stopped can be resumed."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from gliclass_rerank.bulk.part_files import Part, PartFile, ScoredBatch, open_part_file
from gliclass_rerank.bulk.rows import RowScorer
from gliclass_rerank.bulk.run_record import open_run
from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.validation import check_count


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """The progress of a run.

    Attributes:
        rows: Rows in the file.
        done: Rows that are written.
        failed: Written rows that have an error instead of a score.
        damaged: Parts of an earlier run that are emptied or damaged, each with what is wrong with it. They are
            scored again.
    """

    rows: int
    done: int
    failed: int
    damaged: tuple[str, ...] = ()


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

    The parts, part-0000000.jsonl or .parquet and so on, hold the file's rows in order. Each row gets "score" (or
    "scores") and "error" beside its own columns; a row that cannot be scored keeps its place. To resume a run that
    was stopped, start it again with the same arguments: it scores the parts that are missing or damaged. It runs on
    the Ray cluster of this process or of RAY_ADDRESS, or else starts Ray on this machine.

    Args:
        source: JSON lines (.jsonl) or Parquet (.parquet), with "query" and "passage" or "passages" in each row.
        output: The folder. Workers on other machines must reach it and the file by the same paths.
        options: The reranker's options; None for the bundled model and the defaults.
        workers: How many copies of the model run in parallel.
        gpus_per_worker: GPUs for each worker, or a fraction of one; None for one each if the cluster has GPUs and
            ``options.device`` is not the CPU.
        rows_per_part: Rows per part. A resumed run repeats at most one part per worker.

    Yields:
        The progress: first with the parts of an earlier run, then after each part.

    Raises:
        CheckpointError: The model cannot be found.
        OSError: The file cannot be read, or the folder cannot be written.
        RuntimeError: A worker failed for another reason than the content of a row.
        ValueError: The file is of an unknown kind or lacks columns, the folder holds another run, or a number
            is not positive.

    Example:
        >>> for progress in run_bulk("pairs.jsonl", "scored"):  # doctest: +SKIP
        ...     print(progress)
    """
    check_count("workers", workers)
    check_count("rows_per_part", rows_per_part)
    source, output, options = Path(source).resolve(), Path(output).resolve(), options or RerankerOptions()
    if options.model is not None and Path(options.model).is_dir():
        options = replace(options, model=str(Path(options.model).resolve()))  # workers have other current folders
    file = open_part_file(source)
    parts = list(file.parts(rows_per_part))
    open_run(output, source, options, rows_per_part)
    progress, missing = _check_parts(file, parts, output, source.suffix)
    yield progress
    if missing:
        for result in _score_parts(missing, source, output, options, workers, gpus_per_worker):
            done, failed = progress.done + result["rows"], progress.failed + result["failed"]
            progress = replace(progress, done=done, failed=failed)
            yield progress


def _check_parts(file: PartFile, parts: list[Part], output: Path, suffix: str) -> tuple[BulkProgress, list[Part]]:
    """The progress of an earlier run, and the parts that are still to be scored."""
    done, failed, damaged, missing = 0, 0, [], []
    for part in parts:
        path = _part_path(part, output, suffix)
        if path.exists():
            try:
                failed += file.count_errors(path, part.rows)
                done += part.rows
                continue
            except ValueError as error:
                damaged.append(f"{path}: {error}")
        missing.append(part)
    return BulkProgress(sum(part.rows for part in parts), done, failed, tuple(damaged)), missing


def _part_path(part: Part, output: Path, suffix: str) -> Path:
    return output / f"part-{part.number:07}{suffix}"


def _score_parts(
    parts: list[Part],
    source: Path,
    output: Path,
    options: RerankerOptions,
    workers: int,
    gpus_per_worker: float | None,
) -> Iterator[dict[str, Any]]:
    with _running_ray():
        workers = min(workers, len(parts))
        all_nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
        resources = [node["Resources"] for node in all_nodes if node["Alive"]]
        cpus = min(node.get("CPU", 1.0) for node in resources)  # a worker has to fit on any of them
        if gpus_per_worker is None:
            gpus_per_worker = float(options.device != "cpu" and any(node.get("GPU") for node in resources))
        with warnings.catch_warnings(action="ignore", category=RayDeprecationWarning):  # the limits have no new name
            results = ray.data.from_items([asdict(part) for part in parts], override_num_blocks=len(parts)).map_batches(
                _PartScorer,
                fn_constructor_args=(source, output, options),
                compute=ActorPoolStrategy(size=workers),
                batch_size=1,
                num_cpus=max(int(cpus) // -(-workers // len(resources)), 1),
                num_gpus=gpus_per_worker,
                # Finite, so that a part which kills its workers ends the run.
                max_restarts=3,
                max_task_retries=3,
            )
        try:
            for result in results.iter_rows():
                if result["error"]:
                    raise RuntimeError(f"a worker failed; finished parts stay in {output}: {result['error']}")
                yield result
        except RayError as error:  # the worker died, or could not load the model
            messages = re.findall(r"^[\w.]+Error: .+$", str(error), re.MULTILINE)
            cause = messages[-1] if messages else str(error).strip().splitlines()[0]
            raise RuntimeError(f"a worker failed; finished parts stay in {output}: {cause}") from error


@contextmanager
def _running_ray() -> Iterator[None]:
    """Use the Ray that runs, or start one for the block; quiet, since errors are raised and the caller has a bar."""
    context, was_running = DataContext.get_current(), ray.is_initialized()
    previous = context.enable_progress_bars, context.memory_usage_poll_interval_s
    context.enable_progress_bars = False
    context.memory_usage_poll_interval_s = None  # measuring the memory of a loaded model delays its worker
    logger = logging.getLogger("ray.data")
    previous_level = logger.level
    logger.setLevel(logging.CRITICAL)
    if not was_running:
        ray.init(include_dashboard=False, logging_level=logging.CRITICAL, log_to_driver=False)
    try:
        yield
    finally:
        context.enable_progress_bars, context.memory_usage_poll_interval_s = previous
        logger.setLevel(previous_level)
        if not was_running:
            ray.shutdown()


class _PartScorer:
    """A worker: loads the model once and scores one part after another."""

    def __init__(self, source: Path, output: Path, options: RerankerOptions) -> None:
        self._file, self._output, self._suffix = open_part_file(source), output, source.suffix
        self._scorer = RowScorer(options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        part = Part(**{name: int(value) for name, [value] in batch.items()})
        failed = 0

        def score_batches() -> Iterator[ScoredBatch]:
            nonlocal failed
            for rows in self._file.read(part):
                results = self._scorer.score(self._file.rows(rows))
                failed += sum(result["error"] is not None for result in results)
                yield rows, results

        try:
            with atomic_write(_part_path(part, self._output, self._suffix)) as unfinished:
                self._file.write(unfinished, score_batches())
        except Exception as error:  # returned, since Ray would bury it in advice
            return {"rows": [0], "failed": [0], "error": [f"{type(error).__name__}: {error}"]}
        return {"rows": [part.rows], "failed": [failed], "error": [""]}
