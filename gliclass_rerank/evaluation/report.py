"""Several models side by side, over several collections or sets of texts: as a table and as a record.

Results are evaluations by model, each model's in the same order of collections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from gliclass_rerank.evaluation.classification import Classified
from gliclass_rerank.evaluation.evaluator import Evaluation
from gliclass_rerank.evaluation.measures import MAIN_MEASURE, MEASURES
from gliclass_rerank.evaluation.significance import Estimate

Results = Mapping[str, Sequence[Evaluation]]
_LEVEL = 0.05
_DIGITS = 4


def as_table(results: Results) -> Table:
    """A table for the terminal: a row for each collection, a column for each model.

    Args:
        results: Evaluations by model.

    Example:
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> evaluation = evaluate(tea, lambda query, passages: [-len(passage) for passage in passages])
        >>> [str(column.header) for column in as_table({"shortest": [evaluation]}).columns]
        ['collection', 'queries', 'first stage', 'shortest']
    """
    caption = f"[95% confidence interval], * where p < {_LEVEL} against the first stage"
    # Text, not str: names and brackets are never read as markup.
    columns: list[Column | str] = ["collection", "queries", "first stage", *(Column(Text(name)) for name in results)]
    table = Table(*columns, title=MAIN_MEASURE, caption=Text(caption))
    for evaluations in zip(*results.values(), strict=True):
        first = evaluations[0]
        estimates = [first.first_stage[MAIN_MEASURE], *(result.reranked[MAIN_MEASURE] for result in evaluations)]
        table.add_row(Text(first.collection), str(len(first.queries)), *(Text(_cell(e)) for e in estimates))
    table.add_section()
    means = [_first_stage(results), *([e.reranked for e in evaluations] for evaluations in results.values())]
    table.add_row("mean", "", *(f"{mean_over_collections(estimates)[MAIN_MEASURE]:.3f}" for estimates in means))
    return table


def as_record(results: Results) -> dict[str, Any]:
    """Every figure, ready for JSON.

    Args:
        results: Evaluations by model.

    Returns:
        "collections", and "mean", each measure's mean over them.

    Example:
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> evaluation = evaluate(tea, lambda query, passages: [-len(passage) for passage in passages])
        >>> as_record({"shortest": [evaluation]})["mean"]["models"]["shortest"]["MRR@10"]
        1.0
    """
    collections = [
        {
            "collection": evaluations[0].collection,
            "candidates": evaluations[0].candidates,
            "queries": len(evaluations[0].queries),
            "first stage": {name: _figures(e) for name, e in evaluations[0].first_stage.items()},
            "models": {
                model: {name: _figures(e) | {"p": _rounded(e.p_value)} for name, e in evaluation.reranked.items()}
                for model, evaluation in zip(results, evaluations, strict=True)
            },
        }
        for evaluations in zip(*results.values(), strict=True)
    ]
    means = {
        "first stage": _rounded_means(_first_stage(results)),
        "models": {model: _rounded_means([e.reranked for e in results[model]]) for model in results},
    }
    return {"collections": collections, "mean": means}


def as_classification_table(results: Mapping[str, Sequence[Classified]]) -> Table:
    """A table for the terminal: a row for each set of texts, a column for each model, as in the model cards.

    Args:
        results: By model, each model's in the same order of sets.

    Example:
        >>> table = as_classification_table({"m": [Classified("tea", 2, 10, 0.5, 0.6)]})
        >>> [str(column.header) for column in table.columns]
        ['dataset', 'texts', 'm']
    """
    table = Table("dataset", "texts", *(Column(Text(name)) for name in results), title="macro-F1 (accuracy)")
    for set_results in zip(*results.values(), strict=True):
        cells = (f"{result.macro_f1:.4f} ({result.accuracy:.4f})" for result in set_results)
        table.add_row(Text(set_results[0].name), str(set_results[0].texts), *cells)
    table.add_section()
    table.add_row(
        "average",
        "",
        *(f"{mean(result.macro_f1 for result in model_results):.4f}" for model_results in results.values()),
    )
    return table


def as_classification_record(results: Mapping[str, Sequence[Classified]]) -> dict[str, Any]:
    """Every figure, ready for JSON.

    Args:
        results: See ``as_classification_table``.

    Returns:
        "classification", a row for each set, and "average macro-F1" by model.

    Example:
        >>> as_classification_record({"m": [Classified("tea", 2, 10, 0.5, 0.6)]})["average macro-F1"]
        {'m': 0.5}
    """
    rows = [
        {
            "dataset": set_results[0].name,
            "labels": set_results[0].labels,
            "texts": set_results[0].texts,
            "models": {
                model: {"macro-F1": _rounded(result.macro_f1), "accuracy": _rounded(result.accuracy)}
                for model, result in zip(results, set_results, strict=True)
            },
        }
        for set_results in zip(*results.values(), strict=True)
    ]
    averages = {
        model: _rounded(mean(result.macro_f1 for result in model_results)) for model, model_results in results.items()
    }
    return {"classification": rows, "average macro-F1": averages}


def mean_over_collections(estimates: Iterable[Mapping[str, Estimate]]) -> dict[str, float]:
    """The mean of each measure over collections, each counting alike, however many queries it has.

    Args:
        estimates: For each collection an estimate for each of ``MEASURES``.

    Example:
        >>> low, high = ({name: Estimate.of([value]) for name in MEASURES} for value in (0.25, 0.75))
        >>> mean_over_collections([low, high])["nDCG@10"]
        0.5
    """
    rows = list(estimates)
    return {name: sum(row[name].mean for row in rows) / len(rows) for name in MEASURES}


def _first_stage(results: Results) -> list[dict[str, Estimate]]:
    return [evaluation.first_stage for evaluation in next(iter(results.values()))]


def _rounded_means(estimates: Iterable[Mapping[str, Estimate]]) -> dict[str, float]:
    return {name: round(mean, _DIGITS) for name, mean in mean_over_collections(estimates).items()}


def _cell(estimate: Estimate) -> str:
    interval = "" if estimate.interval is None else " [{:.3f}, {:.3f}]".format(*estimate.interval)
    mark = "*" if estimate.p_value is not None and estimate.p_value < _LEVEL else ""
    return f"{estimate.mean:.3f}{mark}{interval}"


def _figures(estimate: Estimate) -> dict[str, float | None]:
    low, high = estimate.interval or (None, None)
    return {"mean": _rounded(estimate.mean), "low": _rounded(low), "high": _rounded(high)}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, _DIGITS)
