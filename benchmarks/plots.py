"""Draws the pictures that stand beside the results' JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.results_file import RESULTS

_BAR = 0.22  # inches


def save_bars(name: str, groups: Mapping[str, Mapping[str, float]], measured: str) -> Path:
    """Draw results/<name>.png: groups of bars, each bar labelled with its value."""
    bars = sum(map(len, groups.values()))
    height = 1.2 + _BAR * (bars + 2 * len(groups))
    figure, axes = _axes(height)
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    place, middles = 0.0, []
    for group in groups.values():
        first = place
        for label, value in group.items():
            bar = axes.barh(place, value, 0.8, color=f"C{names.index(label) % 10}", label=label)
            axes.bar_label(bar, fmt=" %.3g", fontsize=7)
            place += 1
        middles.append((first + place - 1) / 2)
        place += 1
    axes.set_yticks(middles, list(groups))
    axes.invert_yaxis()
    axes.set(xlabel=measured)
    axes.grid(axis="x", alpha=0.3)
    return _save(figure, axes, name)


def save_lines(name: str, lines: Mapping[str, Mapping[int, float]], measured: str, along: str) -> Path:
    """Draw results/<name>.png: labelled lines on logarithmic axes."""
    figure, axes = _axes(5.0)
    for label, points in lines.items():
        axes.plot(list(points), list(points.values()), marker="o", markersize=3, label=label)
    axes.set(xscale="log", yscale="log", xlabel=along, ylabel=measured)
    ticks = sorted({x for points in lines.values() for x in points})
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.grid(alpha=0.3)
    return _save(figure, axes, name)


def _axes(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)  # needs no display and shares no state
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, axes: Any, name: str) -> Path:  # noqa: ANN401 - matplotlib's axes
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=2, fontsize=8)
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=120)
    return path
