"""Read the files of a collection in BEIR layout; an error names the file and the line."""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from gliclass_rerank.data.json_text import not_utf8, parse_json
from gliclass_rerank.validation import check_query


def read_json(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401 - any JSON
    """Read a file of JSON.

    Args:
        path: The file.

    Returns:
        The parsed value.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not JSON or not UTF-8; the message names it.

    Example:
        >>> read_json("labels.json")  # doctest: +SKIP
        ['sports', 'cooking']
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    return parse_json(text, str(path))


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file of JSON objects, one per line.

    Args:
        path: The file.

    Yields:
        Each object with its place as ``file:line``. Blank lines are skipped.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not a JSON object; the message names file and line.

    Example:
        >>> list(read_json_lines("passages.jsonl"))  # doctest: +SKIP
    """
    for place, line in _read_lines(Path(path)):
        row = parse_json(line, place)
        if not isinstance(row, dict):
            raise ValueError(f"{place} is {line.strip()[:60]!r}; expected a JSON object.")
        yield place, row


def read_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the rows of corpus.jsonl or queries.jsonl with all their keys.

    Args:
        path: The file.

    Yields:
        Each row with its place as ``file:line``. A row has a unique "_id" and a "text".

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not such a row; the message names file and line.

    Example:
        >>> list(read_rows("corpus.jsonl"))  # doctest: +SKIP
    """
    seen = set()
    for place, row in read_json_lines(path):
        for key in ("_id", "text"):
            if not isinstance(row.get(key), str):
                raise ValueError(f'{place} has no "{key}" string.')
        if row["_id"] in seen:
            raise ValueError(f'{place}: "_id" is {row["_id"]!r}, as on an earlier line. Give each row its own.')
        seen.add(row["_id"])
        yield place, row


def read_passages(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read corpus.jsonl: rows with "_id", "text" and optionally "title".

    Args:
        path: The file.

    Returns:
        The passages by id, in the file's order. A title stands in front of the text, with a space between them.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not such a row, or an id appears twice; the message names file and line.

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
            raise ValueError(f'{place}: "title" is {title!r}; expected a str or null.')
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
        ValueError: A line is not such a row, its text is blank, or an id appears twice; the message names file
            and line.

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
    r"""Read a qrels file: query id, passage id and relevance, separated by tabs, with or without a header.

    Args:
        path: The file.
        queries: The ids of all queries.
        passages: The ids of all passages.

    Returns:
        The relevance of the judged passages by query, both in the file's order.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line has other columns, an unknown id, a relevance that is not a whole number, or contradicts
            an earlier line; the message names file and line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "test.tsv")
        ...     _ = path.write_text("query-id\tcorpus-id\tscore\nq1\tp1\t1\n")
        ...     read_qrels(path, {"q1"}, {"p1"})
        {'q1': {'p1': 1}}
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (place, line) in enumerate(_read_lines(Path(path))):
        query, passage, score = _check_columns(place, line.rstrip("\r\n").split("\t"), 3)
        if number == 0 and score.strip() == "score":
            continue
        _check_known(place, "query", query, queries)
        _check_known(place, "passage", passage, passages)
        relevance = _parse_number(place, "the relevance", score)
        if not relevance.is_integer():
            raise ValueError(f"{place}: the relevance is {score.strip()}; expected a whole number.")
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
        The passage ids by query, both in the file's order.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line has other columns, an unknown id or a score above the previous one, or repeats a
            passage; the message names file and line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "test.bm25.trec")
        ...     _ = path.write_text("q1 Q0 p2 1 7.5 bm25\nq1 Q0 p1 2 3.1 bm25\n")
        ...     read_run(path, {"q1"}, {"p1", "p2"})
        {'q1': ['p2', 'p1']}
    """
    run: dict[str, dict[str, float]] = {}
    for place, line in _read_lines(Path(path)):
        query, _, passage, _, text, _ = _check_columns(place, line.split(), 6)
        _check_known(place, "query", query, queries)
        _check_known(place, "passage", passage, passages)
        scores = run.setdefault(query, {})
        score = _parse_number(place, "the score", text)
        if passage in scores:
            raise ValueError(f"{place}: query {query!r} has passage {passage!r} twice. Remove one of the lines.")
        # The result has the order of the lines, so it must be the order of the scores.
        if scores and score > next(reversed(scores.values())):
            raise ValueError(f"{place}: the score {text} is above the previous one. Sort the run by falling score.")
        scores[passage] = score
    return {query: list(scores) for query, scores in run.items()}


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each line that is not blank, with its place as ``file:line``."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}:{number}", line
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def _check_columns(place: str, columns: list[str], count: int) -> list[str]:
    if len(columns) != count:
        separator = "tabs" if count == 3 else "spaces"
        raise ValueError(f"{place} has {len(columns)} columns; expected {count}, separated by {separator}.")
    return columns


def _check_known(place: str, kind: str, row_id: str, known: Container[str]) -> None:
    if row_id not in known:
        file = {"query": "queries.jsonl", "passage": "corpus.jsonl"}[kind]
        raise ValueError(f"{place}: {kind} {row_id!r} is not in {file}.")


def _parse_number(place: str, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{place}: {name} is {text.strip()!r}; expected a number.")
    return number
