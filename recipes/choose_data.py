"""Choose a part of each training set: whole neighbourhoods of passages, so that hard negatives stay."""

from __future__ import annotations

import json
import random
from pathlib import Path

from gliclass_rerank.data.beir import read_qrels, read_rows

_NEIGHBOURHOOD = 40  # passages that follow one another in a corpus, mostly of the same page or title


def choose_collection(
    source: Path, target: Path, max_passages: int, *, skip: int = 0, exclude: frozenset[str] = frozenset()
) -> Path | None:
    """Copy neighbourhoods of a collection, and the queries that one of their passages answers.

    Args:
        source: A folder in BEIR layout, with qrels/train.tsv.
        target: The folder to write.
        max_passages: Passages to choose at most.
        skip: Passages to pass over first: those that a call with this ``max_passages`` chooses.
        exclude: Ids of passages to leave out.

    Returns:
        The folder; None if no passage that answers a query remains.
    """
    rows = [row for _, row in read_rows(source / "corpus.jsonl")]
    ids = [str(row["_id"]) for row in rows]
    starts = list(range(0, len(rows), _NEIGHBOURHOOD))
    random.Random(source.name).shuffle(starts)
    skipped: set[str] = set()
    chosen: set[str] = set()
    for start in starts:
        if len(chosen) >= max_passages:
            break
        neighbourhood = [id_ for id_ in ids[start : start + _NEIGHBOURHOOD] if id_ not in exclude]
        (skipped if len(skipped) < skip else chosen).update(neighbourhood)
    queries = {str(row["_id"]): row for _, row in read_rows(source / "queries.jsonl")}
    qrels = read_qrels(source / "qrels" / "train.tsv", queries, set(ids))
    judged = {query: {id_: score for id_, score in scores.items() if id_ in chosen} for query, scores in qrels.items()}
    answered = {query for query, scores in judged.items() if any(score > 0 for score in scores.values())}
    if not answered:
        return None
    (target / "qrels").mkdir(parents=True, exist_ok=True)
    write_rows(target / "corpus.jsonl", [row for row, id_ in zip(rows, ids, strict=True) if id_ in chosen])
    write_rows(target / "queries.jsonl", [row for id_, row in queries.items() if id_ in answered])
    lines = [
        f"{query}\t{id_}\t{score}" for query in judged if query in answered for id_, score in judged[query].items()
    ]
    text = "\n".join(["query-id\tcorpus-id\tscore", *lines])
    (target / "qrels" / "train.tsv").write_text(text + "\n", encoding="utf-8")
    return target


def choose_labelled(source: Path, target: Path, max_rows: int) -> Path:
    """Copy some rows of a set of labelled texts or of inference.

    Args:
        source: A folder with train.jsonl.
        target: The file to write.
        max_rows: Rows to choose at most.
    """
    lines = (source / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in random.Random(source.name).sample(lines, min(len(lines), max_rows))]
    seen: dict[tuple[str, str], str] = {}
    consistent = []
    for row in rows:  # some sets label a pair twice, differently
        key = (row["text"], row.get("query") or "")
        if seen.setdefault(key, str(row["label"])) == str(row["label"]):
            consistent.append(row)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_rows(target, consistent)
    return target


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
