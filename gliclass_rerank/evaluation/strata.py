"""Where a reranker gains and where it loses: by length of query and passage, and by words that they share."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from gliclass_rerank.evaluation.collection import Collection
from gliclass_rerank.evaluation.evaluator import Evaluation
from gliclass_rerank.evaluation.measures import MAIN_MEASURE

_CONTENT_WORD = 4  # letters; shorter words are mostly function words, which nearly all passages hold


@dataclass(frozen=True, slots=True)
class Stratum:
    """The queries of all collections that are alike in one respect.

    Attributes:
        respect: "query words", "relevant passage words" or "% shared words".
        values: The range that the queries lie in, such as "above 5, up to 10".
        queries: How many queries.
        first_stage: Their mean nDCG@10 in the first stage's order.
        gains: The mean gain in nDCG@10 over the first stage by model.
    """

    respect: str
    values: str
    queries: int
    first_stage: float
    gains: dict[str, float]


def stratify(collections: Sequence[Collection], results: Mapping[str, Sequence[Evaluation]]) -> list[Stratum]:
    """Divide the queries of all collections into strata, in three respects.

    The length of the relevant passages is their mean number of words. The shared words are the share of a query's
    words of four letters or more that a relevant passage holds, again the mean over passages; a query without such
    a word counts with all its words.

    Args:
        collections: The collections.
        results: Evaluations by model, each model's in the order of ``collections``.

    Returns:
        The strata that have queries. Each query counts alike, whatever collection it comes from.

    Example:
        >>> from gliclass_rerank.evaluation import evaluate
        >>> tea = Collection("tea", "", {"q": "tea?"}, {"a": "Rain.", "b": "Tea"}, {"q": ["a", "b"]}, {"q": {"b": 1}})
        >>> evaluation = evaluate(tea, lambda query, passages: [-len(passage) for passage in passages])
        >>> [(stratum.respect, stratum.values) for stratum in stratify([tea], {"shortest": [evaluation]})]
        [('query words', 'up to 5'), ('relevant passage words', 'up to 40'), ('% shared words', 'above 75')]
    """
    first = next(iter(results.values()))
    queries = [(c, query) for c, result in zip(collections, first, strict=True) for query in result.queries]
    before = [value for result in first for value in result.first_stage[MAIN_MEASURE].values]
    after = {
        model: [value for result in evaluations for value in result.reranked[MAIN_MEASURE].values]
        for model, evaluations in results.items()
    }
    strata = []
    for respect, (describe, limits) in _RESPECTS.items():
        places = [bisect_left(limits, describe(c, query)) for c, query in queries]
        for place in sorted(set(places)):
            chosen = [i for i, other in enumerate(places) if other == place]
            gains = {model: mean(values[i] - before[i] for i in chosen) for model, values in after.items()}
            values = _describe_range(limits, place)
            strata.append(Stratum(respect, values, len(chosen), mean(before[i] for i in chosen), gains))
    return strata


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _relevant(collection: Collection, query: str) -> list[list[str]]:
    """The words of each relevant passage."""
    grades = collection.qrels[query].items()
    return [_words(collection.passages[passage]) for passage, grade in grades if grade > 0]


def _query_words(collection: Collection, query: str) -> float:
    return len(_words(collection.queries[query]))


def _passage_words(collection: Collection, query: str) -> float:
    return mean(map(len, _relevant(collection, query)))


def _shared_words(collection: Collection, query: str) -> float:
    """In percent."""
    words = set(_words(collection.queries[query]))
    content = {word for word in words if len(word) >= _CONTENT_WORD} or words or {""}
    return mean(100 * len(content.intersection(words)) / len(content) for words in _relevant(collection, query))


_RESPECTS: dict[str, tuple[Callable[[Collection, str], float], tuple[int, ...]]] = {
    "query words": (_query_words, (5, 10, 20, 40)),
    "relevant passage words": (_passage_words, (40, 80, 160, 320)),
    "% shared words": (_shared_words, (25, 50, 75)),
}


def _describe_range(limits: Sequence[int], place: int) -> str:
    """The values above the limit before a place, and up to the limit at it."""
    above = [f"above {limits[place - 1]}"] if place > 0 else []
    up_to = [f"up to {limits[place]}"] if place < len(limits) else []
    return ", ".join(above + up_to)
