"""Files of JSON lines for tests."""

from __future__ import annotations

import json
from pathlib import Path


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
