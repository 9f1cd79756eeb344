"""Where benchmark results go, with what is needed to read and repeat them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gliclass_rerank.evaluation.environment import describe_command, describe_environment

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write results/<name>.json: the result, the versions, the hardware and the command."""
    record = {
        "command": describe_command(f"python -m benchmarks.{Path(sys.argv[0]).stem}", sys.argv[1:]),
        **describe_environment("gliclass"),
        **result,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path
