"""Score rows of a table, whatever is in them: one that cannot be scored says why, and its neighbours are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.serving.loading import load_reranker
from gliclass_rerank.validation import check_query, check_texts

Pair = tuple[str, str]
FOUND = ("score", "scores", "error")  # what a row gets


class RowScorer:
    """Scores rows that hold a query with a passage, or with several.

    It is what Ray Data's ``map_batches`` wants for a batch, and loads its model once per worker. It never raises
    over what a row holds: with some engines one such row would cost all of its block. A row that has one of
    the names ``FOUND`` already gets an error, since nothing may be lost.

    Args:
        options: Which model, and how it runs; None for the bundled one as it comes.

    Example:
        >>> scorer = RowScorer(RerankerOptions(device="cpu"))
        >>> query = "Why is my bread so dense?"
        >>> rows = [{"query": query, "passage": "Dense loaves are underproofed."}, {"query": query, "passage": None}]
        >>> good, poison = scorer.score(rows)
        >>> good["score"] > 0.1, good["error"], poison["score"], poison["error"]
        (True, None, None, 'passage is a NoneType, expected a str.')
    """

    def __init__(self, options: RerankerOptions | None = None) -> None:
        self._reranker = load_reranker(options or RerankerOptions())

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Score a batch of columns.

        Args:
            batch: Columns "query" and "passage", or "query" and "passages", and any others; arrays or lists.

        Returns:
            The same columns, and "score" (a number; NaN where there is none) or "scores" (a list; empty where
            there is none), and "error" (a text; empty where all went well).
        """
        columns = {name: list(column) for name, column in batch.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        found = self.score(rows)
        errors = [result["error"] or "" for result in found]
        if "passages" in columns:
            # Made empty first: lists of equal length would become one array of two dimensions.
            scores = np.empty(len(found), dtype=object)
            scores[:] = [np.array(result.get("scores") or [], dtype=np.float64) for result in found]
            return {**batch, "scores": scores, "error": np.array(errors, dtype=object)}
        score = np.array([result.get("score") for result in found], dtype=np.float64)  # None becomes NaN
        return {**batch, "score": score, "error": np.array(errors, dtype=object)}

    def score(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Score rows.

        Args:
            rows: Each a dict with "query", and "passage" or "passages"; what is none gets an error.

        Returns:
            One dict per row, in order: "score", or "scores" where the row has "passages"; and "error", None
            where all went well. What there is no score for is None.
        """
        pairs: list[list[Pair]] = []
        errors: list[str | None] = []
        for row in rows:
            try:
                pairs.append(_read_pairs(row))
                errors.append(None)
            except (TypeError, ValueError) as error:
                pairs.append([])
                errors.append(str(error))
        scores: list[list[float]] = [[] for _ in rows]
        self._score([i for i, error in enumerate(errors) if error is None], pairs, scores, errors)
        return [_result(row, of_row, error) for row, of_row, error in zip(rows, scores, errors, strict=True)]

    def _score(
        self, chosen: list[int], pairs: list[list[Pair]], scores: list[list[float]], errors: list[str | None]
    ) -> None:
        """Score the chosen rows; where that fails, each half of them alone, down to the row that is to blame.

        What is wrong with a pair is found before any is scored, so halving costs little. Errors of the machine, of
        a GPU for instance, are no row's, and stop the work.
        """
        if not chosen:
            return
        try:
            found = iter(self._reranker.score_pairs([pair for i in chosen for pair in pairs[i]]))
        except (TypeError, ValueError, ArithmeticError, MemoryError) as error:
            if len(chosen) == 1:
                errors[chosen[0]] = str(error)
            else:
                middle = len(chosen) // 2
                self._score(chosen[:middle], pairs, scores, errors)
                self._score(chosen[middle:], pairs, scores, errors)
        else:
            for i in chosen:
                scores[i] = [next(found) for _ in pairs[i]]


def _read_pairs(row: Any) -> list[Pair]:  # noqa: ANN401 - whatever a file holds
    if not isinstance(row, Mapping):
        raise TypeError(f"the row is a {type(row).__name__}, expected an object with query and passage.")
    taken = [name for name in FOUND if name in row]
    if taken:
        raise ValueError(f"the row has {taken[0]!r}, where what is found is written. Call it otherwise.")
    if "query" not in row or ("passage" in row) == ("passages" in row):
        found = ", ".join(map(repr, row)) or "nothing"
        raise ValueError(f"the row has {found}, expected query and passage, or query and passages.")
    query, passages = row["query"], row.get("passages", ())
    check_query("query", query)
    if "passage" in row:
        if not isinstance(row["passage"], str):
            raise TypeError(f"passage is a {type(row['passage']).__name__}, expected a str.")
        return [(query, row["passage"])]
    passages = passages.tolist() if isinstance(passages, np.ndarray) else passages
    return [(query, passage) for passage in check_texts("passages", passages)]


def _result(row: Any, scores: list[float], error: str | None) -> dict[str, Any]:  # noqa: ANN401 - whatever a file holds
    if isinstance(row, Mapping) and "passages" in row:
        return {"scores": scores if error is None else None, "error": error}
    return {"score": scores[0] if error is None else None, "error": error}
