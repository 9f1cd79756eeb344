"""Collections in BEIR layout, with a first stage's run to rerank."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Run = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Collection:
    """Some queries of a collection, each with its candidates in the first stage's order."""

    name: str
    run_name: str
    queries: dict[str, str]
    passages: dict[str, str]
    candidates: dict[str, list[str]]
    qrels: dict[str, dict[str, int]]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_qrels(path: Path) -> list[tuple[str, str, int]]:
    """Query, passage and relevance of each line of a qrels file."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [(query, passage, int(float(relevance))) for query, passage, relevance in rows]


def read_collection(folder: Path, split: str, most: int, seed: int) -> Collection:
    """Read corpus.jsonl, queries.jsonl, qrels/<split>.tsv and the one run in runs/<split>.*.trec.

    ``most`` queries are drawn at random; 0 for all.
    """
    [path] = folder.glob(f"runs/{split}.*.trec")
    candidates: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        query, _, passage, _, _, _ = line.split()
        candidates[query].append(passage)
    chosen = sorted(candidates)
    if most and most < len(chosen):
        chosen = random.Random(seed).sample(chosen, most)
    qrels: dict[str, dict[str, int]] = {query: {} for query in chosen}
    for query, passage, relevance in read_qrels(folder / "qrels" / f"{split}.tsv"):
        if query in qrels:
            qrels[query][passage] = relevance
    texts = {row["_id"]: row["text"] for row in read_jsonl(folder / "queries.jsonl")}
    passages = {
        row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in read_jsonl(folder / "corpus.jsonl")
    }
    return Collection(
        folder.name,
        path.name,
        {query: texts[query] for query in chosen},
        passages,
        {query: candidates[query] for query in chosen},
        qrels,
    )
