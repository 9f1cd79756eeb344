"""What every entry point asks of its arguments, and the words in which it refuses them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Literal, get_args

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def check_count(name: str, value: int | None) -> None:
    """Refuse what is neither None nor an int of at least 1."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral):  # numpy's integers are Integral
        raise TypeError(f"{name} is {value!r}, expected an int of at least 1, or None.")
    if value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1, or None.")


def check_threshold(name: str, value: float | None) -> None:
    """Refuse what is neither None nor a number in [0, 1]."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}, expected a number in [0, 1], or None for all passages.")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}, expected a score in [0, 1], or None for all passages.")


def check_dtype(value: str) -> None:
    """Refuse an unknown precision."""
    check_choice("dtype", value, get_args(Dtype))


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse what is none of some words."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}.")


def check_query(name: str, query: str) -> None:
    """Refuse what is no str, or one without any character that can be seen."""
    if not isinstance(query, str):
        raise TypeError(f"{name} is a {type(query).__name__}, expected a str.")
    # Control, format and surrogate characters: tokenizers drop them, which leaves no label.
    if all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in query):
        raise ValueError(f"{name} is {query!r}, expected at least one character that can be seen.")


def check_queries(name: str, queries: str | Iterable[str]) -> list[str]:
    """Make a list of queries, of a single one too; refuse one that ``check_query`` refuses, by its index."""
    if isinstance(queries, str):
        check_query(name, queries)
        return [queries]
    if isinstance(queries, (bytes, bytearray, Mapping)) or not isinstance(queries, Iterable):
        raise TypeError(f"{name} is a {type(queries).__name__}, expected a str or a list of str.")
    queries = check_texts(name, queries)
    for index, query in enumerate(queries):
        check_query(f"{name}[{index}]", query)
    return queries


def check_some_queries(name: str, queries: str | Iterable[str]) -> list[str]:
    """``check_queries``, and refuse none at all."""
    queries = check_queries(name, queries)
    if not queries:
        raise ValueError(f"{name} is empty, expected a str or at least one.")
    return queries


def check_facets(facets: Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    """Make a dict from facets to the lowest scores with which a passage is kept: 0 where none is given."""
    if isinstance(facets, Mapping):
        for facet, lowest in facets.items():
            check_query("a facet", facet)
            check_threshold(f"facets[{facet!r}]", lowest)
            if lowest is None:
                raise TypeError(f"facets[{facet!r}] is None, expected a number in [0, 1]: 0 to keep all.")
        return dict(facets)
    return dict.fromkeys(check_queries("facets", check_texts("facets", facets)), 0.0)


def check_texts(name: str, texts: Iterable[str]) -> list[str]:
    """Make a list of texts; refuse a single str, and an item that is no str by its index."""
    if isinstance(texts, (str, bytes, bytearray)):
        raise TypeError(f"{name} is a single {type(texts).__name__}, expected a list of str: wrap it as [text].")
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} is a {type(texts).__name__}, expected a list of str.")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{index}] is a {type(text).__name__}, expected a str.")
    return texts
