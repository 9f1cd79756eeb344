"""The field's measures of a ranking, all by ir_measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MEASURES = ("nDCG@10", "MRR@10", "MAP", "R@10")
MAIN_MEASURE = "nDCG@10"  # of tables, plots and gains; records have all measures


def measure(qrels: Mapping[str, Mapping[str, int]], ranking: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """Measure a ranking of each query's passages.

    Args:
        qrels: Relevance by query id and passage id; passages that are absent count as not relevant.
        ranking: Ids of passages by query id, best first. A query without any is measured as 0.

    Returns:
        For each of ``MEASURES``, a value for each query, in the order of ``qrels``.

    Example:
        >>> measure({"q": {"b": 1}}, {"q": ["a", "b"]})["MRR@10"]
        [0.5]
    """
    import ir_measures

    measures = {
        ir_measures.nDCG @ 10: "nDCG@10",
        ir_measures.RR @ 10: "MRR@10",
        ir_measures.AP: "MAP",
        ir_measures.R @ 10: "R@10",
    }
    # Ranks in place of scores: no two are equal, so the order given is the order measured.
    run = {query: {passage: -place for place, passage in enumerate(ids)} for query, ids in ranking.items()}
    values: dict[str, dict[str, float]] = {name: {} for name in MEASURES}
    for value in ir_measures.iter_calc(list(measures), qrels, run):
        values[measures[value.measure]][value.query_id] = float(value.value)
    return {name: [by_query[query] for query in qrels] for name, by_query in values.items()}
