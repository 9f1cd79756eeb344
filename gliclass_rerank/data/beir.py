"""The files of a collection in BEIR layout, read line by line: what is broken is named by file and line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from gliclass_rerank.validation import check_query


def read_json(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401 - any JSON
    """Read a file of JSON.

    Args:
        path: The file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no JSON, or not UTF-8; it is named.

    Example:
        >>> read_json("labels.json")  # doctest: +SKIP
        ['sports', 'cooking']
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file of JSON objects, one a line.

    Args:
        path: The file.

    Yields:
        Each object that is not blank, with its place as ``file:line``.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is no JSON object; file and line are named.

    Example:
        >>> list(read_json_lines("passages.jsonl"))  # doctest: +SKIP
    """
    for place, line in _lines(Path(path)):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise ValueError(f"{place} is {line.strip()[:60]!r}, expected a JSON object.")
        yield place, row


def read_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read corpus.jsonl or queries.jsonl, with all that their rows hold.

    Args:
        path: The file.

    Yields:
        Each row, with an "_id" of its own and a "text", and its place as ``file:line``.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is no such row; file and line are named.

    Example:
        >>> list(read_rows("corpus.jsonl"))  # doctest: +SKIP
    """
    seen = set()
    for place, row in read_json_lines(path):
        for key in ("_id", "text"):
            if not isinstance(row.get(key), str):
                raise ValueError(f'{place} has no "{key}" string.')
        if row["_id"] in seen:
            raise ValueError(f'{place}: "_id" is {row["_id"]!r}, which an earlier line has too. Ids must differ.')
        seen.add(row["_id"])
        yield place, row


def read_passages(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read corpus.jsonl: rows with "_id", "text" and perhaps "title".

    Args:
        path: The file.

    Returns:
        By id, in the file's order, the passage: its title, a space and its text.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is no such row, or its id was there before; file and line are named.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "corpus.jsonl")
        ...     _ = path.write_text('{"_id": "p1", "title": "Tea", "text": "Water first."}')
        ...     read_passages(path)
        {'p1': 'Tea Water first.'}
    """
    passages = {}
    for place, row in read_rows(path):
        title = row.get("title") or ""
        if not isinstance(title, str):
            raise ValueError(f'{place}: "title" is {title!r}, expected a str or null.')
        passages[row["_id"]] = f"{title} {row['text']}".strip()
    return passages


def read_queries(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read queries.jsonl: rows with "_id" and "text".

    Args:
        path: The file.

    Returns:
        The queries by id, in the file's order.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is no such row, its text is blank, or its id was there before; file and
            line are named.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "queries.jsonl")
        ...     _ = path.write_text('{"_id": "q1", "text": "how to make tea?"}')
        ...     read_queries(path)
        {'q1': 'how to make tea?'}
    """
    queries = {}
    for place, row in read_rows(path):
        check_query(f'{place}: "text"', row["text"])
        queries[row["_id"]] = row["text"]
    return queries


def read_qrels(
    path: str | os.PathLike[str], queries: Container[str], passages: Container[str]
) -> dict[str, dict[str, int]]:
    r"""Read a qrels file: query id, passage id and relevance, parted by tabs, below a header.

    Args:
        path: The file.
        queries: The ids of all queries.
        passages: The ids of all passages.

    Returns:
        The relevance of judged passages by query, both in the file's order.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line has other columns, an unknown id, a relevance that is no whole number, or
            contradicts an earlier one; file and line are named.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "test.tsv")
        ...     _ = path.write_text("query-id\tcorpus-id\tscore\nq1\tp1\t1\n")
        ...     read_qrels(path, {"q1"}, {"p1"})
        {'q1': {'p1': 1}}
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (place, line) in enumerate(_lines(Path(path))):
        query, passage, score = _columns(place, line.rstrip("\r\n").split("\t"), 3)
        if number == 0 and score.strip() == "score":
            continue
        _check_known(place, "query", query, queries)
        _check_known(place, "passage", passage, passages)
        relevance = _number(place, "the relevance", score)
        if not relevance.is_integer():
            raise ValueError(f"{place}: the relevance is {score.strip()}, expected a whole number.")
        if qrels.setdefault(query, {}).setdefault(passage, int(relevance)) != relevance:
            raise ValueError(f"{place}: query {query!r} and passage {passage!r} were judged differently above.")
    return qrels


def read_run(path: str | os.PathLike[str], queries: Container[str], passages: Container[str]) -> dict[str, list[str]]:
    r"""Read a first stage's run in TREC's format: query id, Q0, passage id, rank, score, name.

    Args:
        path: The file.
        queries: The ids of all queries.
        passages: The ids of all passages.

    Returns:
        Ids of passages by query, both in the file's order.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line has other columns, an unknown id or a score above the one before it, or
            names a passage again; file and line are named.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "test.bm25.trec")
        ...     _ = path.write_text("q1 Q0 p2 1 7.5 bm25\nq1 Q0 p1 2 3.1 bm25\n")
        ...     read_run(path, {"q1"}, {"p1", "p2"})
        {'q1': ['p2', 'p1']}
    """
    run: dict[str, dict[str, float]] = {}
    for place, line in _lines(Path(path)):
        query, _, passage, _, text, _ = _columns(place, line.split(), 6)
        _check_known(place, "query", query, queries)
        _check_known(place, "passage", passage, passages)
        found = run.setdefault(query, {})
        score = _number(place, "the score", text)
        if passage in found:
            raise ValueError(f"{place}: query {query!r} has passage {passage!r} twice.")
        # The order of lines is taken for the order of scores, so they must agree.
        if found and score > next(reversed(found.values())):
            raise ValueError(f"{place}: the score {text} is above the one before it. Sort the run by falling score.")
        found[passage] = score
    return {query: list(found) for query, found in run.items()}


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, with its place as ``file:line``."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}:{number}", line
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}). Convert it first.") from error


def _columns(place: str, columns: list[str], count: int) -> list[str]:
    if len(columns) != count:
        parted = "tabs" if count == 3 else "blanks"
        raise ValueError(f"{place} has {len(columns)} columns, expected {count}, parted by {parted}.")
    return columns


def _check_known(place: str, kind: str, found: str, known: Container[str]) -> None:
    if found not in known:
        file = {"query": "queries.jsonl", "passage": "corpus.jsonl"}[kind]
        raise ValueError(f"{place}: {kind} {found!r} is not in {file}.")


def _number(place: str, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{place}: {name} is {text.strip()!r}, expected a number.")
    return number
