"""Read safetensors weights: first the headers of all files, then one tensor at a time.

The headers say what a file holds, so a checkpoint with wrong contents is refused before its weights take memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gliclass_rerank.engine.untrusted import read_json
from gliclass_rerank.errors import CheckpointError

WEIGHTS = "model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"  # of a checkpoint whose weights are in several files
MAX_PARAMETERS = 1 << 30  # twice as many as the largest published checkpoint
_MAX_HEADER_BYTES = 1 << 22
_MAX_TENSORS = 10_000
_MAX_VALUE = 1e6  # far beyond any trained weight: a damaged one scores garbage, or overflows on some passages only
_DTYPES = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True)
class StoredTensor:
    """What a file's header says of a tensor.

    Attributes:
        path: The file.
        key: The tensor's name in the file.
        shape: Its shape.
        dtype: Its type, as safetensors names it.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: str


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """Read the headers of a checkpoint's weights.

    Args:
        folder: The checkpoint's folder.

    Returns:
        The tensors by their name without a leading ``model.``; checkpoints of June 2024 have none.

    Raises:
        CheckpointError: A file is missing, damaged or has too many tensors, or a tensor is there twice.
    """
    stored: dict[str, StoredTensor] = {}
    for path in _weight_files(folder):
        for tensor in _read_header(path):
            name = tensor.key.removeprefix("model.")
            if name in stored:
                raise CheckpointError(
                    f"tensor {name} is there twice: {stored[name].key} in {stored[name].path.name}, "
                    f"{tensor.key} in {path.name}."
                )
            stored[name] = tensor
        if len(stored) > _MAX_TENSORS:
            raise CheckpointError(f"{path.name} has more than {_MAX_TENSORS:,} tensors.")
    return stored


def check_tensors(stored: Mapping[str, StoredTensor], expected: Mapping[str, Tensor]) -> None:
    """Compare what files hold with what a network needs.

    Args:
        stored: The stored tensors by name.
        expected: The network's tensors by name; they may lie on the device "meta".

    Raises:
        CheckpointError: A tensor is missing, unexpected, or of another shape or type; the message names up to five.
    """
    common = expected.keys() & stored.keys()
    _raise_for("missing tensors", expected.keys() - stored.keys())
    _raise_for("unexpected tensors", stored.keys() - expected.keys())
    shapes = {name: (stored[name].shape, tuple(expected[name].shape)) for name in common}
    wrong_shapes = [f"{name} {actual}, expected {right}" for name, (actual, right) in shapes.items() if actual != right]
    _raise_for("wrong shapes", wrong_shapes)
    wrong_dtypes = [f"{name} {stored[name].dtype}" for name in common if stored[name].dtype not in _DTYPES]
    _raise_for(f"dtypes other than {', '.join(_DTYPES)}", wrong_dtypes)


def read_tensors(stored: Mapping[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    """Read tensors one at a time, so that the files never lie in memory beside the copy.

    Args:
        stored: The tensors to read, by name.

    Yields:
        Name and values in fp32.

    Raises:
        CheckpointError: A file is damaged, or a value is not finite or too large.
    """
    infinite, large = [], []
    for path in sorted({tensor.path for tensor in stored.values()}):
        with _open(path) as file:
            for name, tensor in stored.items():
                if tensor.path == path:
                    # Copied, since the file is mapped: a model in memory must not change with its folder.
                    values = file.get_tensor(tensor.key).to(torch.float32, copy=True)
                    largest = values.abs().max().item() if values.numel() else 0.0  # NaN if there is one
                    if not math.isfinite(largest):
                        infinite.append(name)
                    elif largest > _MAX_VALUE:
                        large.append(f"{name} ({largest:.1e})")
                    yield name, values
    _raise_for("values that are not finite", infinite)
    _raise_for(f"values beyond {_MAX_VALUE:,.0f}", large)


def _weight_files(folder: Path) -> list[Path]:
    names: list[Any] = [WEIGHTS]
    if (folder / SHARDS).is_file():
        weight_map = read_json(folder / SHARDS).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{SHARDS} has no weight_map.")
        names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing. Only safetensors weights are read, never pickled ones.")
    return [folder / name for name in names]


def _read_header(path: Path) -> Iterator[StoredTensor]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _MAX_HEADER_BYTES:
        raise CheckpointError(f"{path.name} is damaged: its header has {size:,} bytes, over {_MAX_HEADER_BYTES:,}.")
    with _open(path) as file:
        keys = file.keys()
        if len(keys) > _MAX_TENSORS:
            raise CheckpointError(f"{path.name} has {len(keys):,} tensors, expected at most {_MAX_TENSORS:,}.")
        for key in keys:
            part = file.get_slice(key)
            yield StoredTensor(path, key, tuple(part.get_shape()), part.get_dtype())


def _open(path: Path) -> Any:  # noqa: ANN401 - safetensors has no type for it
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}.") from error


def _raise_for(problem: str, names: Collection[str]) -> None:
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise CheckpointError(f"{problem}: {', '.join(sorted(names)[:5])}{more}.")
