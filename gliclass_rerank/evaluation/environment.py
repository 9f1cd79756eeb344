"""What is needed to read and repeat a measurement: the command, the versions, the hardware."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("gliclass-rerank", "torch", "transformers", "tokenizers", "numpy")


def describe_command(program: str, arguments: Sequence[str]) -> str:
    """The command line, without the folders of the machine it ran on, which are nobody's business.

    Args:
        program: What was run.
        arguments: What it was given; of a path outside the current folder the last part is kept.

    Example:
        >>> describe_command("gliclass-rerank eval", ["/home/me/data/wikiqa", "--json=../out.json", "--queries", "9"])
        'gliclass-rerank eval wikiqa --json=out.json --queries 9'
    """
    return " ".join([program, *(shlex.quote(_shorten(argument)) for argument in arguments)])


def describe_environment(*packages: str) -> dict[str, Any]:
    """The date, the hardware and the versions of what matters.

    Args:
        packages: Names of further distributions whose versions matter.

    Example:
        >>> sorted(describe_environment("scipy"))
        ['date', 'hardware', 'versions']
    """
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": _hardware(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in (*_PACKAGES, *packages)},
    }


def _shorten(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    outside = value.startswith(("/", "..", "~", "./..")) or Path(value).is_absolute()
    return option + equals + (Path(value).name if outside else value)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _hardware() -> dict[str, Any]:
    import torch

    features = getattr(torch.cpu, "get_capabilities", dict[str, Any])()
    return {
        "cpu": features.get("cpu_name") or platform.processor() or platform.machine(),
        "avx512_bf16": bool(features.get("avx512_bf16")),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
