"""Where benchmark results go, with what is needed to read and repeat them."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("gliclass-rerank", "torch", "transformers", "tokenizers", "gliclass", "numpy")


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write results/<name>.json: the result, the versions, the hardware and the command."""
    # Folders of the machine it ran on are nobody's business: the last part of a path names it.
    arguments = [Path(a).name if a.startswith(("/", "..")) else a for a in sys.argv[1:]]
    record = {
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *arguments]),
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": _hardware(),
        "versions": {"python": platform.python_version(), **_versions()},
        **result,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _hardware() -> dict[str, Any]:
    features = getattr(torch.cpu, "get_capabilities", dict[str, Any])()
    return {
        "cpu": features.get("cpu_name") or platform.processor() or platform.machine(),
        "avx512_bf16": bool(features.get("avx512_bf16")),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
