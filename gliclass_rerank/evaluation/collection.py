"""Collections in BEIR layout: queries, what is relevant to them, and candidates to rerank."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gliclass_rerank.data.beir import read_passages, read_qrels, read_queries, read_run
from gliclass_rerank.data.bm25 import KeywordIndex
from gliclass_rerank.validation import check_count

_BM25_DEPTH = 50
_BM25 = f"BM25, first {_BM25_DEPTH}"


@dataclass(frozen=True, slots=True)
class Collection:
    """Some queries, each with its candidates in the first stage's order.

    Attributes:
        name: The folder's.
        first_stage: What the candidates come from.
        queries: The queries by id.
        passages: Every passage of the collection by id.
        candidates: Ids of passages by query id.
        qrels: Relevance by query id and passage id; passages that are absent count as not relevant.

    Example:
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> [tea.passages[passage] for passage in tea.candidates["q"]]
        ['Rain.', 'Tea']
    """

    name: str
    first_stage: str
    queries: dict[str, str]
    passages: dict[str, str]
    candidates: dict[str, list[str]]
    qrels: dict[str, dict[str, int]]


def read_collection(
    folder: str | os.PathLike[str], split: str = "test", *, queries: int | None = None, seed: int = 0
) -> Collection:
    r"""Read corpus.jsonl, queries.jsonl and qrels/<split>.tsv, and choose candidates.

    The candidates are those of the run in runs/<split>.*.trec, if there is one, and only its queries
    count. Without one, they are each query's judged passages in a random order where most queries
    have passages judged relevant and others judged not, and else BM25's first 50 of the whole corpus.

    Args:
        folder: The collection.
        split: Which qrels and run.
        queries: How many queries, drawn at random; None for all that have a relevant passage.
        seed: Of what is random.

    Raises:
        OSError: A file is missing or cannot be read.
        ValueError: A line is broken (named by file and line), there are several runs, or no query
            has a relevant passage.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = pathlib.Path(name)
        ...     _ = (folder / "corpus.jsonl").write_text('{"_id": "p1", "text": "Rain"}\n{"_id": "p2", "text": "Tea"}')
        ...     _ = (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "how to make tea?"}')
        ...     (folder / "qrels").mkdir()
        ...     _ = (folder / "qrels" / "test.tsv").write_text("q1\tp2\t1")
        ...     collection = read_collection(folder)
        >>> collection.candidates, collection.first_stage
        ({'q1': ['p2']}, 'BM25, first 50')
    """
    check_count("queries", queries)
    folder = Path(folder)
    passages, texts = read_passages(folder / "corpus.jsonl"), read_queries(folder / "queries.jsonl")
    judged = read_qrels(folder / "qrels" / f"{split}.tsv", texts, passages)
    qrels = {query: judgements for query, judgements in judged.items() if max(judgements.values()) > 0}
    path = _find_run(folder, split)
    run = None if path is None else read_run(path, texts, passages)
    if run is not None:
        qrels = {query: judgements for query, judgements in qrels.items() if query in run}
    if not qrels:
        raise ValueError(f"{folder}: no query of the split {split!r} has a relevant passage and candidates.")
    chosen = {query: texts[query] for query in _draw(qrels, queries, seed)}
    if path is not None and run is not None:
        first_stage, candidates = path.name, {query: run[query] for query in chosen}
    elif _are_lists(qrels):
        first_stage, candidates = "judged passages, shuffled", _shuffle(qrels, chosen, seed)
    else:
        first_stage, candidates = _BM25, _search(chosen, passages)
    return Collection(
        folder.resolve().name, first_stage, chosen, passages, candidates, {query: qrels[query] for query in chosen}
    )


def search_candidates(collection: Collection) -> Collection:
    """Replace the candidates by BM25's first 50 of all passages.

    Args:
        collection: The collection; its queries and judgements stay.

    Example:
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a"]}, {"q": {"b": 1}})
        >>> search_candidates(tea).candidates
        {'q': ['b']}
    """
    return replace(collection, first_stage=_BM25, candidates=_search(collection.queries, collection.passages))


def _are_lists(qrels: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether most queries have judged passages of both kinds; a few may have been given relevant ones only."""
    return sum(min(judgements.values()) <= 0 for judgements in qrels.values()) > len(qrels) / 2


def _find_run(folder: Path, split: str) -> Path | None:
    run_paths = sorted(path for path in (folder / "runs").glob("*.trec") if path.name.startswith(f"{split}."))
    if len(run_paths) > 1:
        names = ", ".join(path.name for path in run_paths)
        raise ValueError(f"{folder / 'runs'} holds several runs of the split {split!r} ({names}). Leave one of them.")
    return run_paths[0] if run_paths else None


def _draw(queries: Iterable[str], count: int | None, seed: int) -> list[str]:
    ordered = sorted(queries)  # the same are drawn whatever the order of the file
    return ordered if count is None or count >= len(ordered) else random.Random(seed).sample(ordered, count)


def _shuffle(qrels: Mapping[str, Mapping[str, int]], queries: Iterable[str], seed: int) -> dict[str, list[str]]:
    # A seed for each query: its order is the same whichever others are drawn.
    return {query: random.Random(f"{seed} {query}").sample(list(qrels[query]), len(qrels[query])) for query in queries}


def _search(queries: Mapping[str, str], passages: Mapping[str, str]) -> dict[str, list[str]]:
    ids, index = list(passages), KeywordIndex(passages.values())
    return {query: [ids[i] for i in index.search(text, top_k=_BM25_DEPTH)] for query, text in queries.items()}
