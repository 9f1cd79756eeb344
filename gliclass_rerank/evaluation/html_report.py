"""Models side by side as one HTML file: for each query, what each model puts first, and how good its scores are.

The file loads nothing, so it opens without the internet. Queries and passages stand in it as data, never as markup.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.evaluation.collection import Collection
from gliclass_rerank.evaluation.evaluator import Evaluation, order_by_scores
from gliclass_rerank.evaluation.measures import MAIN_MEASURE
from gliclass_rerank.evaluation.plot import add_legend, make_figure
from gliclass_rerank.evaluation.report import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TEMPLATE = Path(__file__).with_name("report.html")
_SHOWN = 5  # passages of each model
_MAX_CHARACTERS = 700  # of a passage that are shown
_BINS = 10

_Pairs = tuple[list[float], list[bool]]  # scores, and whether the passage is relevant


def write_html_report(
    collections: Sequence[Collection], results: Results, path: str | os.PathLike[str], *, title: str
) -> None:
    """Write the report.

    Args:
        collections: What was evaluated.
        results: Evaluations by model, each model's in the order of ``collections``; scores are probabilities.
        path: The file; one that exists is replaced.
        title: The page's title, such as the command.

    Raises:
        ImportError: The extra "eval" is not installed.
        OSError: The file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> evaluation = evaluate(tea, lambda query, passages: [0.1, 0.9])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_html_report([tea], {"mine": [evaluation]}, pathlib.Path(folder, "report.html"), title="Tea")
        ...     "<title>Tea</title>" in pathlib.Path(folder, "report.html").read_text(encoding="utf-8")
        True
    """
    parts = {
        "TITLE": escape(title.encode("utf-8", "replace").decode()),
        "FIGURE": b64encode(_draw(collections, results)).decode(),
        "DATA": _as_script_data(_rows(collections, results)),
    }
    # In one pass, so that a place's name inside a part stays text.
    html = re.sub(r"\[\[([A-Z]+)\]\]", lambda place: parts[place[1]], _TEMPLATE.read_text(encoding="utf-8"))
    with atomic_write(Path(path)) as unfinished:
        unfinished.write_text(html, encoding="utf-8")


def _rows(collections: Sequence[Collection], results: Results) -> dict[str, Any]:
    """All that the page shows: each passage once, and for each query an order for the first stage and each model."""
    passages: dict[str, str] = {}
    queries = []
    for number, collection in enumerate(collections):
        evaluations = {name: rows[number] for name, rows in results.items()}
        for place, query in enumerate(collection.queries):
            candidates = collection.candidates[query]
            orders = [candidates[:_SHOWN]]
            orders += [order_by_scores(candidates, e.scores[query])[:_SHOWN] for e in evaluations.values()]
            scores = [dict(zip(candidates, e.scores[query], strict=True)) for e in evaluations.values()]
            passages |= {f"{number}/{i}": _shorten(collection.passages[i]) for order in orders for i in order}
            first = next(iter(evaluations.values()))
            queries.append(
                {
                    "collection": collection.name,
                    "query": collection.queries[query],
                    "values": [
                        first.first_stage[MAIN_MEASURE].values[place],
                        *(e.reranked[MAIN_MEASURE].values[place] for e in evaluations.values()),
                    ],
                    "orders": [[f"{number}/{i}" for i in order] for order in orders],
                    "scores": [[round(s[i], 4) for i in order] for s, order in zip(scores, orders[1:], strict=True)],
                    "relevant": [f"{number}/{i}" for i, grade in collection.qrels[query].items() if grade > 0],
                }
            )
    return {"measure": MAIN_MEASURE, "models": list(results), "passages": passages, "queries": queries}


def _shorten(passage: str) -> str:
    return passage if len(passage) <= _MAX_CHARACTERS else passage[:_MAX_CHARACTERS].rstrip() + " …"


def _as_script_data(data: dict[str, Any]) -> str:
    """JSON that may stand in a script element: without a character that could end the element."""
    return json.dumps(data).replace("<", "\\u003c")


def _draw(collections: Sequence[Collection], results: Results) -> bytes:
    """A reliability diagram and a threshold curve for each model, as a PNG."""
    figure = make_figure(11, 4.5)
    reliability, thresholds = figure.subplots(1, 2)
    for number, (name, evaluations) in enumerate(results.items()):
        pairs = _pairs(collections, evaluations)
        _draw_reliability(reliability, pairs, f"C{number}")
        _draw_thresholds(thresholds, pairs, name, f"C{number}")
    reliability.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    reliability.set(xlabel="score", ylabel="share of relevant candidates", title="What a score means")
    thresholds.set(
        xlabel="threshold", ylabel="recall among candidates (solid), precision (dashed)", title="What a threshold keeps"
    )
    for axes in (reliability, thresholds):
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
    add_legend(figure, columns=3)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _pairs(collections: Sequence[Collection], evaluations: Sequence[Evaluation]) -> _Pairs:
    scores: list[float] = []
    relevant: list[bool] = []
    for collection, evaluation in zip(collections, evaluations, strict=True):
        for query, row in evaluation.scores.items():
            scores += row
            relevant += [collection.qrels[query].get(i, 0) > 0 for i in collection.candidates[query]]
    return scores, relevant


def _draw_reliability(axes: Axes, pairs: _Pairs, color: str) -> None:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for score, is_relevant in zip(*pairs, strict=True):
        bins[max(0, min(int(score * _BINS), _BINS - 1))].append((score, is_relevant))
    means = [(mean(s for s, _ in members), mean(r for _, r in members)) for members in bins if members]
    axes.plot([score for score, _ in means], [share for _, share in means], marker="o", color=color)


def _draw_thresholds(axes: Axes, pairs: _Pairs, name: str, color: str) -> None:
    scores, relevant = pairs
    steps = [i / 100 for i in range(101)]
    total = sum(relevant)
    passing = [[r for s, r in zip(scores, relevant, strict=True) if s >= threshold] for threshold in steps]
    axes.plot(steps, [sum(k) / total if total else 0 for k in passing], color=color, label=name)
    precise = [(threshold, sum(k) / len(k)) for threshold, k in zip(steps, passing, strict=True) if k]
    axes.plot([x for x, _ in precise], [y for _, y in precise], color=color, linestyle="--")
