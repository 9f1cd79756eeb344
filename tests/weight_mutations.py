"""Mutations of a checkpoint's safetensors file: its header, and its numbers."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any


def _read_weights(folder: Path) -> tuple[dict[str, Any], bytearray]:
    content = (folder / "model.safetensors").read_bytes()
    [size] = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])


def _write_weights(folder: Path, header: dict[str, Any], data: bytes | bytearray) -> None:
    raw = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def change_header(folder: Path, rng: random.Random) -> None:
    header, data = _read_weights(folder)
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice([key for key in header if key != "__metadata__"])
        entry = header[name]
        action = rng.randrange(7)
        if action == 0:
            del header[name]
        elif action == 1:
            header[rng.choice((name.removeprefix("model."), f"model.{name}", name + "x", ""))] = dict(entry)
        elif action == 2:
            entry["dtype"] = rng.choice(("I32", "BOOL", "C64", "F8_E4M3", "U8", "F16", "F64", "X", 3))
        elif action == 3:
            entry["shape"] = rng.choice(
                (entry["shape"][::-1], [], [0], [2**40], [-1], "x", [2**63, 2], entry["shape"] + [1])
            )
        elif action == 4:
            entry["data_offsets"] = rng.choice(([0, 4], [0, 2**62], [4, 0], [], None, [0, len(data)], [-1, 3]))
        elif action == 5:
            header["__metadata__"] = rng.choice(({}, None, {"format": 3}, {"format": "tf"}, [], {"x": "y" * 10**6}))
        else:
            header.update({f"t{i}": dict(entry) for i in range(rng.choice((1, 20_000)))})
    _write_weights(folder, header, data)


def add_a_tensor(folder: Path, rng: random.Random) -> None:
    """Store a tensor a second time under the other form of its name, or one of another type, with data of its own."""
    header, data = _read_weights(folder)
    name = rng.choice([key for key in header if key != "__metadata__"])
    length = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
    other = rng.choice(
        (name.removeprefix("model."), "model.position_ids", "x", "encoder_model.embeddings.position_ids")
    )
    header[other] = {**header[name], "data_offsets": [len(data), len(data) + length]}
    _write_weights(folder, header, bytes(data) + bytes(length))


def retype_a_tensor(folder: Path, rng: random.Random) -> None:
    """Call a tensor's bytes whole numbers: as many, of the same size."""
    header, data = _read_weights(folder)
    name = rng.choice([key for key, entry in header.items() if entry.get("dtype") == "F32"])
    header[name]["dtype"] = rng.choice(("I32", "U32"))
    _write_weights(folder, header, bytes(data))


def sort_tensors(folder: Path, rng: random.Random) -> None:
    header, data = _read_weights(folder)
    names = list(header)
    rng.shuffle(names)
    _write_weights(folder, {name: header[name] for name in names}, bytes(data))


def change_weights(folder: Path, rng: random.Random) -> None:
    header, data = _read_weights(folder)
    entry = header[rng.choice([key for key in header if key != "__metadata__"])]
    start, end = entry["data_offsets"]
    action = rng.randrange(4)
    if action == 0:
        data[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    elif action == 1:
        data[start : start + 4] = struct.pack("<f", rng.choice((math.nan, math.inf, 3e38, -3e38, 1e-45)))
    elif action == 2:
        data[start:end] = struct.pack("<f", rng.choice((3e38, 1e30, 1e10, 0.0))) * ((end - start) // 4)
    else:
        data[start:end] = rng.randbytes(end - start)
    _write_weights(folder, header, bytes(data))
