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
from gliclass_rerank.evaluation.comparison import Comparison
from gliclass_rerank.evaluation.evaluator import Evaluation
from gliclass_rerank.evaluation.gains import gain, measure_gains
from gliclass_rerank.evaluation.measures import MAIN_MEASURE, MEASURES
from gliclass_rerank.evaluation.significance import Estimate
from gliclass_rerank.evaluation.strata import Stratum

Results = Mapping[str, Sequence[Evaluation]]
_LEVEL = 0.05
_DIGITS = 4


def as_table(results: Results) -> Table:
    """A table for the terminal: a row for each collection, a column for each model, with its gains.

    Args:
        results: Evaluations by model.

    Example:
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> evaluation = evaluate(tea, lambda query, passages: [-len(passage) for passage in passages])
        >>> [str(column.header) for column in as_table({"shortest": [evaluation]}).columns]
        ['collection', 'queries', 'first stage', 'shortest']
    """
    caption = f"(gain over the first stage, * where p < {_LEVEL}) [95% confidence interval]"
    # Text, not str: names and brackets are never read as markup.
    columns: list[Column | str] = ["collection", "queries", "first stage", *(Column(Text(name)) for name in results)]
    table = Table(*columns, title=MAIN_MEASURE, caption=Text(caption))
    for evaluations in zip(*results.values(), strict=True):
        first = evaluations[0]
        before = first.first_stage[MAIN_MEASURE]
        cells = [f"{before.mean:.3f}{_interval(before)}", *map(_cell, evaluations)]
        table.add_row(Text(first.collection), str(len(first.queries)), *map(Text, cells))
    table.add_section()
    mean_before = mean_over_collections(_first_stage(results))[MAIN_MEASURE]
    gains = [measure_gains(evaluations) for evaluations in results.values()]
    means = (f"{mean_before + each.mean:.3f} ({each.mean:+.3f})" for each in gains)
    table.add_row("mean", "", f"{mean_before:.3f}", *means)
    table.add_row("worst gain", "", "", *(Text(f"{each.worst:+.3f} ({each.worst_collection})") for each in gains))
    return table


def as_comparison_table(comparisons: Mapping[str, Sequence[Comparison]], baseline: str) -> Table:
    """A table for the terminal: a row for each collection and one for all queries, a column for each model.

    Args:
        comparisons: By model, the results of ``compare``.
        baseline: The name of the model that they are compared with.

    Example:
        >>> table = as_comparison_table({"m": [Comparison("tea", 40, 0.02, 0.3)]}, "bundled")
        >>> [str(column.header) for column in table.columns]
        ['collection', 'queries', 'm']
    """
    columns: list[Column | str] = ["collection", "queries", *(Column(Text(name)) for name in comparisons)]
    table = Table(*columns, title=Text(f"{MAIN_MEASURE}, difference to {baseline} (p-value)"))
    for rows in zip(*comparisons.values(), strict=True):
        cells = (f"{row.difference:+.3f}" + ("" if row.p_value is None else f" ({row.p_value:.4f})") for row in rows)
        table.add_row(Text(rows[0].collection), str(rows[0].queries), *cells)
    return table


def as_strata_table(strata: Sequence[Stratum]) -> Table:
    """A table for the terminal: a row for each stratum, a column for each model's gain.

    Args:
        strata: The result of ``stratify``, not empty.

    Example:
        >>> table = as_strata_table([Stratum("query words", "up to 5", 40, 0.6, {"m": 0.02})])
        >>> [str(column.header) for column in table.columns]
        ['', '', 'queries', 'first stage', 'm']
    """
    models = (Column(Text(name)) for name in strata[0].gains)
    table = Table("", "", "queries", "first stage", *models, title=f"{MAIN_MEASURE}, gain over the first stage")
    respect = ""
    for stratum in strata:
        is_first = stratum.respect != respect
        respect = stratum.respect
        if is_first:
            table.add_section()
        cells = [f"{stratum.first_stage:.3f}", *(f"{difference:+.3f}" for difference in stratum.gains.values())]
        table.add_row(respect if is_first else "", stratum.values, str(stratum.queries), *cells)
    return table


def as_record(results: Results) -> dict[str, Any]:
    """Every figure, ready for JSON.

    Args:
        results: Evaluations by model.

    Returns:
        "collections", "mean" (each measure's mean over them) and "gain" (nDCG@10 over the first stage by model).

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
            "gain": {model: _rounded(gain(evaluation)) for model, evaluation in zip(results, evaluations, strict=True)},
        }
        for evaluations in zip(*results.values(), strict=True)
    ]
    means = {
        "first stage": _rounded_means(_first_stage(results)),
        "models": {model: _rounded_means([e.reranked for e in results[model]]) for model in results},
    }
    gains = {
        model: {"mean": _rounded(each.mean), "worst": _rounded(each.worst), "worst collection": each.worst_collection}
        for model, evaluations in results.items()
        for each in [measure_gains(evaluations)]
    }
    return {"collections": collections, "mean": means, "gain": gains}


def as_values_by_query(results: Results) -> list[dict[str, Any]]:
    """Each query's nDCG@10, ready for JSON, so that other tests of significance can be made.

    Args:
        results: Evaluations by model.

    Returns:
        For each collection its name and, by query id, the value of the first stage and of each model.

    Example:
        >>> from gliclass_rerank.evaluation import Collection, evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> evaluation = evaluate(tea, lambda query, passages: [-len(passage) for passage in passages])
        >>> as_values_by_query({"shortest": [evaluation]})[0]["queries"]
        {'q': {'first stage': 0.6309, 'shortest': 1.0}}
    """
    rows = []
    for evaluations in zip(*results.values(), strict=True):
        first = evaluations[0]
        columns = {"first stage": first.first_stage[MAIN_MEASURE].values} | {
            model: result.reranked[MAIN_MEASURE].values for model, result in zip(results, evaluations, strict=True)
        }
        queries = {
            query: {name: _rounded(values[i]) for name, values in columns.items()}
            for i, query in enumerate(first.queries)
        }
        rows.append({"collection": first.collection, "queries": queries})
    return rows


def as_comparison_record(comparisons: Mapping[str, Sequence[Comparison]], baseline: str) -> dict[str, Any]:
    """Every comparison, ready for JSON.

    Args:
        comparisons: By model, the results of ``compare``.
        baseline: The name of the model that they are compared with.

    Example:
        >>> as_comparison_record({"m": [Comparison("tea", 40, 0.02, 0.3)]}, "bundled")["models"]["m"]
        [{'collection': 'tea', 'queries': 40, 'difference': 0.02, 'p': 0.3}]
    """
    models = {
        model: [
            {
                "collection": row.collection,
                "queries": row.queries,
                "difference": _rounded(row.difference),
                "p": _rounded(row.p_value),
            }
            for row in rows
        ]
        for model, rows in comparisons.items()
    }
    return {"model": baseline, "measure": MAIN_MEASURE, "models": models}


def as_strata_record(strata: Sequence[Stratum]) -> list[dict[str, Any]]:
    """Every stratum, ready for JSON.

    Args:
        strata: The result of ``stratify``.

    Example:
        >>> as_strata_record([Stratum("query words", "up to 5", 40, 0.6, {"m": 0.02})])[0]["gain"]
        {'m': 0.02}
    """
    return [
        {
            "respect": stratum.respect,
            "values": stratum.values,
            "queries": stratum.queries,
            "first stage": _rounded(stratum.first_stage),
            "gain": {model: _rounded(difference) for model, difference in stratum.gains.items()},
        }
        for stratum in strata
    ]


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


def _cell(evaluation: Evaluation) -> str:
    estimate = evaluation.reranked[MAIN_MEASURE]
    mark = "*" if estimate.p_value is not None and estimate.p_value < _LEVEL else ""
    return f"{estimate.mean:.3f} ({gain(evaluation):+.3f}{mark}){_interval(estimate)}"


def _interval(estimate: Estimate) -> str:
    return "" if estimate.interval is None else " [{:.3f}, {:.3f}]".format(*estimate.interval)


def _figures(estimate: Estimate) -> dict[str, float | None]:
    low, high = estimate.interval or (None, None)
    return {"mean": _rounded(estimate.mean), "low": _rounded(low), "high": _rounded(high)}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, _DIGITS)
