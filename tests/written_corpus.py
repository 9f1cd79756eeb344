"""The corpus of examples/corpus as test data: its passages, and the ten questions of its test split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent.parent / "examples" / "corpus"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CORPUS / name).read_text(encoding="utf-8").splitlines()]


def qrels(name: str) -> dict[str, str]:
    """Question id to passage id."""
    lines = (CORPUS / "qrels" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return dict(line.split("\t")[:2] for line in lines)


IDS = [row["_id"] for row in rows("corpus.jsonl")]
TEXTS = [f"{row['title']} {row['text']}" for row in rows("corpus.jsonl")]
_ALL = {row["_id"]: row["text"] for row in rows("queries.jsonl")}
QUESTIONS = [_ALL[question] for question in qrels("test")]
