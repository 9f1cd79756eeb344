"""Data that a tiny model can learn: which wall has which colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.json_lines import write_rows

COLORS = ["red", "blue", "green", "white", "black", "brown", "yellow", "orange"]


def write_colors(folder: Path, colors: Sequence[str] = COLORS, repeat: int = 30) -> Path:
    """Write a collection in BEIR layout, a passage and a question for each colour."""
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": c, "title": f"Room {i % 2}", "text": f"The wall is {c}. " * repeat} for i, c in enumerate(colors)]
    queries = [{"_id": f"q{c}", "text": f"Which wall is {c}?", "answers": [c]} for c in colors]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        write_rows(folder / f"{name}.jsonl", *rows)
    qrels = [f"q{c}\t{c}\t1" for c in colors]
    (folder / "qrels" / "train.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *qrels]))
    return folder
