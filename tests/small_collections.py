"""Collections of a few passages, and rankers of which the result is known."""

from __future__ import annotations

from pathlib import Path

from gliclass_rerank.evaluation import Collection
from tests.json_lines import write_rows

PASSAGES = {
    "p1": ("", "The stock market closed early."),
    "p2": ("Photosynthesis", "Leaves turn light, water and air into sugar."),
    "p3": ("Sugar", "Sugar comes in bags of one kilogram."),
    "p4": ("Bread", "Bread rises because yeast makes gas."),
    "p5": (None, "Point the hour hand at the sun to find north."),
}
QUERIES = {"q1": "How do plants make sugar?", "q2": "Why does bread rise?", "q3": "Where is north?"}
QRELS = [("q1", "p2", 1), ("q2", "p4", 2), ("q3", "p5", 1)]
RUN = {"q1": ["p3", "p1", "p2"], "q2": ["p1", "p3", "p4"]}


def write(folder: Path, *, qrels: list[tuple[str, str, int]] = QRELS, run: dict[str, list[str]] | None = None) -> Path:
    for part in (folder / "qrels", folder / "runs"):
        part.mkdir(parents=True)
    rows = [{"_id": i, "title": title, "text": text} for i, (title, text) in PASSAGES.items()]
    write_rows(folder / "corpus.jsonl", *rows)
    rows = [{"_id": i, "text": text, "other": 1} for i, text in QUERIES.items()]
    write_rows(folder / "queries.jsonl", *rows)
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in qrels)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines))
    if run is not None:
        lines = [f"{q} Q0 {p} {place} {9 - place} x" for q, ids in run.items() for place, p in enumerate(ids, 1)]
        (folder / "runs" / "test.x.trec").write_text("\n".join(lines))
    return folder


def made_of(orders: dict[str, list[str]], qrels: dict[str, dict[str, int]]) -> Collection:
    """A collection whose passages are their ids."""
    passages = {passage: passage for ids in orders.values() for passage in ids}
    return Collection("made", "by hand", {query: query for query in orders}, passages, orders, qrels)


def keep(query: str, passages: list[str]) -> list[float]:
    return [0.5] * len(passages)


def reverse(query: str, passages: list[str]) -> list[float]:
    return [float(place) for place in range(len(passages))]
