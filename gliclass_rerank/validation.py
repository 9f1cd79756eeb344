"""The one door through which arguments come in, and the words in which it refuses them.

Texts leave it as exact ``str``: a subclass such as ``markupsafe.Markup`` may change what is joined to it.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeGuard, get_args

from gliclass_rerank.fusion import Fusion

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def check_count(name: str, value: int | None) -> None:
    """Refuse anything but None and an int of at least 1."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral):  # numpy's integers are Integral
        raise TypeError(f"{name} is {value!r}; expected an int of at least 1, or None.")
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1, or None.")


def check_required_count(name: str, value: int) -> None:
    """Refuse anything but an int of at least 1."""
    if value is None:
        raise TypeError(f"{name} is None; expected an int of at least 1.")
    check_count(name, value)


def check_threshold(name: str, value: float | None, *, way_out: str = "or None for all passages") -> None:
    """Refuse anything but None and a number in [0, 1]."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; expected a number in [0, 1], {way_out}.")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; expected a score in [0, 1], {way_out}.")


def check_model(model: object) -> str | None:
    """The hub name or folder of a checkpoint; None for the bundled model."""
    if model is None:
        return None
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model is {kind(model)}; expected a hub name, a local folder, or None for the bundled model.")
    return os.fsdecode(model)


def check_retrieval_weight(value: float) -> None:
    """Refuse anything but a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"retrieval_weight is {value!r}; expected a number of at least 0.")
    if not 0 <= value < math.inf:
        raise ValueError(f"retrieval_weight is {value}; expected a finite number of at least 0.")


def check_ranking(
    query: str | Iterable[str],
    *,
    top_k: int | None,
    threshold: float | None,
    fusion: str,
    facets: Iterable[str] | Mapping[str, float],
    retrieval_weight: float,
) -> tuple[list[str], dict[str, float]]:
    """Check the arguments of a ranking, all but its passages; returns the queries, and the facets' thresholds."""
    check_count("top_k", top_k)
    check_threshold("threshold", threshold)
    check_choice("fusion", fusion, get_args(Fusion))
    check_retrieval_weight(retrieval_weight)
    return check_some_queries("query", query), check_facets(facets)


def check_dtype(value: str) -> None:
    """Refuse an unknown precision."""
    check_choice("dtype", value, get_args(Dtype))


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is not among the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")


def check_text(name: str, text: str) -> str:
    """The text as an exact str; anything but a str is refused."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is {kind(text)}; expected a str. Convert it or drop it.")
    return str.__str__(text)


def check_query(name: str, query: str) -> str:
    """The query as an exact str; one without any visible character is refused."""
    query = check_text(name, query)
    # Tokenizers drop control, format and surrogate characters, which leaves no label.
    if all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in query):
        raise ValueError(f"{name} is {query!r}; expected at least one visible character.")
    return query


def check_queries(name: str, queries: str | Iterable[str]) -> list[str]:
    """A list of queries, from one or several; a bad one is refused by its index."""
    if isinstance(queries, str):
        return [check_query(name, queries)]
    return [check_query(f"{name}[{i}]", query) for i, query in enumerate(check_texts(name, queries))]


def check_some_queries(name: str, queries: str | Iterable[str]) -> list[str]:
    """``check_queries`` that also refuses an empty list."""
    if not isinstance(queries, str) and not is_list(queries):
        raise TypeError(f"{name} is {kind(queries)}; expected a str or a list of str.")
    checked = check_queries(name, queries)
    if not checked:
        raise ValueError(f"{name} is empty; expected a str, or a list with at least one.")
    return checked


def check_facets(facets: Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    """A dict from each facet to the score that a passage needs to stay: 0 for a facet without one."""
    if not isinstance(facets, Mapping):
        return dict.fromkeys(check_queries("facets", check_texts("facets", facets)), 0.0)
    thresholds = {}
    for facet, threshold in facets.items():
        facet = check_query("a key of facets", facet)
        name, way_out = f"facets[{facet!r}]", "0 to keep every passage"
        if threshold is None:
            raise TypeError(f"{name} is None; expected a number in [0, 1], {way_out}.")
        check_threshold(name, threshold, way_out=way_out)
        thresholds[facet] = threshold
    return thresholds


def check_texts(name: str, texts: Iterable[str]) -> list[str]:
    """A list of texts as exact str; a single str, a mapping or a table is refused, and a bad item by its index."""
    if isinstance(texts, (str, bytes, bytearray)):
        raise TypeError(f"{name} is a single {type(texts).__name__}; expected a list of str. Wrap it as [text].")
    if not is_list(texts):
        raise TypeError(f"{name} is {kind(texts)}; expected a list of str, such as one column or the values.")
    return [check_text(f"{name}[{i}]", text) for i, text in enumerate(texts)]


def check_pairs(name: str, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """A list of (query, passage) pairs; a bad one is refused by its index."""
    if not is_list(pairs):
        raise TypeError(f"{name} is {kind(pairs)}; expected a list of (query, passage) pairs.")
    checked = []
    for i, pair in enumerate(pairs):
        if isinstance(pair, (str, bytes, bytearray)) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"{name}[{i}] is {pair!r:.80}; expected a (query, passage) pair of two str.")
        query = check_query(f"{name}[{i}][0]", pair[0])
        checked.append((query, check_text(f"{name}[{i}][1]", pair[1])))
    return checked


def kind(value: object) -> str:
    """The type of a value in words, for an error message.

    Args:
        value: Any.

    Example:
        >>> kind(3), kind(None), kind({})
        ('an int', 'None', 'a dict')
    """
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def is_list(values: Any) -> TypeGuard[Iterable[Any]]:  # noqa: ANN401
    """Whether iterating gives items: not characters, a mapping's keys or a data frame's column names.

    Args:
        values: Any.

    Example:
        >>> is_list(("tea",)), is_list("tea"), is_list({"tea": 1})
        (True, False, False)
    """
    if isinstance(values, (str, bytes, bytearray, Mapping)) or hasattr(values, "columns"):
        return False
    return isinstance(values, Iterable) and bool(getattr(values, "ndim", 1))  # an array of no dimension has no items
