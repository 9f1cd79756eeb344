"""What a bulk run was started with, so that resuming never mixes the scores of two models or inputs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.data.json_text import parse_json
from gliclass_rerank.engine.checkpoint import find_checkpoint
from gliclass_rerank.options import RerankerOptions

RECORD = "bulk.json"
_MODEL_FILES = {".json", ".safetensors", ".model", ".txt"}  # weights, settings and tokenizer
_NOT_IN_SCORES = {"model", "revision", "token_budget"}  # the model counts by its content
_WAY_OUT = "Choose another output folder, or delete this one to start again."


def open_run(output: Path, source: Path, options: RerankerOptions, rows_per_part: int) -> None:
    """Write a run's record into its folder, or check that the record of the stopped run is the same.

    Args:
        output: The folder of the run; created if it is absent.
        source: The file of rows.
        options: The reranker's options.
        rows_per_part: How the file is cut into parts.

    Raises:
        CheckpointError: The model cannot be found.
        OSError: A file cannot be read, or the record cannot be written.
        ValueError: The folder holds another run, or its record is missing or damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     source = Path(folder, "pairs.jsonl")
        ...     _ = source.write_text('{"query": "tea", "passage": "Water first."}')
        ...     open_run(Path(folder, "out"), source, RerankerOptions(), 1000)
        ...     sorted(json.loads(Path(folder, "out", RECORD).read_text()))[:3]
        ['data', 'device', 'dtype']
    """
    record = {
        "data": _hash_file(source),
        "model": _hash_model(options),
        "rows_per_part": rows_per_part,
        **{name: value for name, value in asdict(options).items() if name not in _NOT_IN_SCORES},
    }
    output.mkdir(parents=True, exist_ok=True)
    path = output / RECORD
    if path.exists():
        _check_same(path, record)
        return
    if any(output.glob("part-*")):
        raise ValueError(f"{output} holds parts but no {RECORD}, which would say what scored them. {_WAY_OUT}")
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _check_same(path: Path, record: dict[str, Any]) -> None:
    try:
        previous = parse_json(path.read_text(encoding="utf-8", errors="replace"), str(path))
        if not isinstance(previous, dict):
            raise ValueError(f"{path} is not a JSON object.")
    except ValueError as error:
        raise ValueError(f"{path} is damaged, so nothing says what scored the parts beside it. {_WAY_OUT}") from error
    reasons = {"data": "the input has other rows", "model": "the model has other weights or settings"}
    changes = [
        reasons.get(name, f"{name} was {previous.get(name)!r}, now {value!r}")
        for name, value in record.items()
        if previous.get(name) != value
    ]
    if changes:
        raise ValueError(f"{path.parent} holds another run: {'; '.join(changes)}. {_WAY_OUT}")


def _hash_model(options: RerankerOptions) -> str:
    folder = find_checkpoint(options.model, revision=options.revision)
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _MODEL_FILES and path.is_file():
            digest.update(f"{path.name}\n{_hash_file(path)}\n".encode())
    return digest.hexdigest()


def _hash_file(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
