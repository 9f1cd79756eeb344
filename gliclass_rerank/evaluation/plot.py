"""Several models side by side, as bars."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gliclass_rerank.evaluation.measures import MAIN_MEASURE
from gliclass_rerank.evaluation.report import Results
from gliclass_rerank.evaluation.significance import Estimate
from gliclass_rerank.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROUP_WIDTH = 0.8  # of the distance between two groups of bars


def save_plot(results: Results, path: str | os.PathLike[str]) -> None:
    """Write a PNG: a group of bars for each collection, a bar for the first stage and for each model.

    Args:
        results: Evaluations by model, each model's in the same order of collections.
        path: The file.

    Raises:
        ImportError: The extra "eval" is not installed.
        OSError: The file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> evaluation = evaluate(tea, lambda query, passages: [-len(passage) for passage in passages])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_plot({"shortest": [evaluation]}, pathlib.Path(folder, "bars.png"))
        ...     pathlib.Path(folder, "bars.png").read_bytes()[1:4]
        b'PNG'
    """
    _draw(results).savefig(path, format="png", dpi=150)


def make_figure(width: float, height: float) -> Figure:
    """A figure that needs no display.

    Args:
        width: Inches.
        height: Inches.

    Raises:
        ImportError: The extra "eval" is not installed.

    Example:
        >>> make_figure(6, 4).get_size_inches().tolist()
        [6.0, 4.0]
    """
    require("matplotlib", extra="eval")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot, so neither a display nor any state that others share
    return figure


def add_legend(figure: Figure, columns: int) -> None:
    """Write what the colours mean below a figure.

    Args:
        figure: Changed in place.
        columns: Entries beside one another.

    Example:
        >>> figure = make_figure(6, 4)
        >>> _ = figure.add_subplot().plot([0, 1], label="a $model")
        >>> add_legend(figure, columns=1)
        >>> [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        ['a $model']
    """
    for text in figure.legend(loc="outside lower center", ncols=columns).get_texts():
        text.set_parse_math(False)


def _draw(results: Results) -> Figure:
    first = next(iter(results.values()))
    heights = [("first stage", [evaluation.first_stage[MAIN_MEASURE] for evaluation in first])]
    heights += [(model, [e.reranked[MAIN_MEASURE] for e in evaluations]) for model, evaluations in results.items()]
    width = _GROUP_WIDTH / len(heights)
    # Wide enough for every bar, and for the names below them.
    figure = make_figure(max(6.0, 1.5 + len(first) * max(1.2, 0.35 * len(heights))), 4.5)
    axes = figure.add_subplot()
    for number, (name, estimates) in enumerate(heights):
        places = [group + (number - (len(heights) - 1) / 2) * width for group in range(len(first))]
        axes.bar(
            places,
            [estimate.mean for estimate in estimates],
            width,
            yerr=_whiskers(estimates),
            capsize=3,
            label=name,
            color="0.7" if number == 0 else f"C{number - 1}",
        )
    axes.set_xticks(range(len(first)), [e.collection for e in first], rotation=20, ha="right", parse_math=False)
    axes.set(ylim=(0, 1), ylabel=MAIN_MEASURE, title=f"{MAIN_MEASURE}, with 95% confidence intervals")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    add_legend(figure, columns=min(3, len(heights)))
    return figure


def _whiskers(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Lengths below and above each bar's end; none where there is no interval."""
    ends = [estimate.interval or (math.nan, math.nan) for estimate in estimates]
    below = [max(estimate.mean - low, 0.0) for estimate, (low, _) in zip(estimates, ends, strict=True)]
    above = [max(high - estimate.mean, 0.0) for estimate, (_, high) in zip(estimates, ends, strict=True)]
    return [below, above]
