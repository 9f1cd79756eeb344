"""Score the rows of a table; a row that cannot be scored gets an error, and all others get their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gliclass_rerank.bulk.loading import load_reranker
from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.validation import check_query, check_text, check_texts, kind

Pair = tuple[str, str]
RESULT_COLUMNS = ("score", "scores", "error")


class RowScorer:
    """Scores rows that hold a query and a passage, or a query and several passages.

    An instance is a callable for Ray Data's ``map_batches``, and loads its model once per worker. It never raises
    because of the content of a row, since in some engines that would lose the whole block. A row that already has
    one of the ``RESULT_COLUMNS`` gets an error, so that no data is overwritten.

    Args:
        options: The reranker's options; None for the bundled model and the defaults.

    Example:
        >>> scorer = RowScorer(RerankerOptions(device="cpu"))
        >>> query = "Why is my bread so dense?"
        >>> rows = [{"query": query, "passage": "Dense loaves are underproofed."}, {"query": query, "passage": None}]
        >>> good, poison = scorer.score(rows)
        >>> good["score"] > 0.1, good["error"], poison["score"], poison["error"]
        (True, None, None, 'passage is None; expected a str. Convert it or drop it.')
    """

    def __init__(self, options: RerankerOptions | None = None) -> None:
        self._reranker = load_reranker(options or RerankerOptions())

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Score a batch of columns.

        Args:
            batch: Arrays or lists by column name: "query" and "passage", or "query" and "passages", and any others.

        Returns:
            The same columns, and "score" (a number, NaN for a failed row) or "scores" (a list, empty for a failed
            row), and "error" (a text, empty for a scored row).
        """
        columns = {name: list(column) for name, column in batch.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        results = self.score(rows)
        errors = [result["error"] or "" for result in results]
        if "passages" in columns:
            # Allocated first, since NumPy would turn lists of equal length into one array of two dimensions.
            scores = np.empty(len(results), dtype=object)
            scores[:] = [np.array(result.get("scores") or [], dtype=np.float64) for result in results]
            return {**batch, "scores": scores, "error": np.array(errors, dtype=object)}
        score = np.array([result.get("score") for result in results], dtype=np.float64)  # None becomes NaN
        return {**batch, "score": score, "error": np.array(errors, dtype=object)}

    def score(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Score rows.

        Args:
            rows: Dicts with "query", and "passage" or "passages". Anything else gets an error.

        Returns:
            One dict per row, in order: "score", or "scores" if the row has "passages"; and "error". Either the error
            or the score is None.
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
        return [_result(*fields) for fields in zip(rows, scores, errors, strict=True)]

    def _score(
        self, indices: list[int], pairs: list[list[Pair]], scores: list[list[float]], errors: list[str | None]
    ) -> None:
        """Score the rows at the indices; if that fails, try each half of them, down to the row at fault.

        The reranker checks all pairs before it scores any, so halving costs little. Errors of the machine, for
        example of a GPU, do not belong to a row and stop the work.
        """
        if not indices:
            return
        try:
            pair_scores = iter(self._reranker.score_pairs([pair for i in indices for pair in pairs[i]]))
        except (TypeError, ValueError, ArithmeticError, MemoryError) as error:
            if len(indices) == 1:
                errors[indices[0]] = str(error)
            else:
                middle = len(indices) // 2
                self._score(indices[:middle], pairs, scores, errors)
                self._score(indices[middle:], pairs, scores, errors)
        else:
            for i in indices:
                scores[i] = [next(pair_scores) for _ in pairs[i]]


def _read_pairs(row: Any) -> list[Pair]:  # noqa: ANN401 - whatever a file holds
    if not isinstance(row, Mapping):
        raise TypeError(f"the row is {kind(row)}; expected an object with query and passage.")
    for name in RESULT_COLUMNS:
        if name in row:
            raise ValueError(f"the row has {name!r}, which the output needs. Rename it.")
    if "query" not in row or ("passage" in row) == ("passages" in row):
        names = ", ".join(map(repr, row)) or "no keys"
        raise ValueError(f"the row has {names}; expected query and passage, or query and passages.")
    query, passages = check_query("query", row["query"]), row.get("passages", ())
    if "passage" in row:
        return [(query, check_text("passage", row["passage"]))]
    passages = passages.tolist() if isinstance(passages, np.ndarray) else passages
    return [(query, passage) for passage in check_texts("passages", passages)]


def _result(row: Any, scores: list[float], error: str | None) -> dict[str, Any]:  # noqa: ANN401 - whatever a file holds
    if isinstance(row, Mapping) and "passages" in row:
        return {"scores": scores if error is None else None, "error": error}
    return {"score": scores[0] if error is None else None, "error": error}
