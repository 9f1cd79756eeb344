"""Labels in levels: {"topic": ["price", "service"]} is asked as "topic.price" and "topic.service"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from gliclass_rerank.validation import check_query

# What a user gives: a list of labels, or names with more of the same below them.
LabelTree = Sequence[str] | Mapping[str, Any]


def flatten(tree: LabelTree, separator: str, name: str = "labels", above: str = "") -> list[str]:
    """The labels of a tree, each with the names above it in front, in the order of the official library.

    Args:
        tree: A list of labels, or a dict of names and trees (a str is a list of one).
        separator: Between a name and what is below it.
        name: What an error calls the tree.
        above: What stands in front of every label.

    Raises:
        TypeError: Something is neither a label, a list nor a dict.
        ValueError: A label has no character that can be seen.

    Example:
        >>> flatten({"topic": ["price", "service"], "tone": {"good": ["calm"]}}, ".")
        ['topic.price', 'topic.service', 'tone.good.calm']
    """
    if isinstance(tree, Mapping):
        return [
            label
            for key, below in tree.items()
            for label in flatten(below, separator, f"{name}[{key!r}]", f"{above}{key}{separator}")
        ]
    if isinstance(tree, str):
        check_query(name, tree)
        return [above + tree]
    if not isinstance(tree, Sequence) or isinstance(tree, (bytes, bytearray)):
        raise TypeError(f"{name} is a {type(tree).__name__}, expected a list of str, or a dict of lists.")
    for i, label in enumerate(tree):
        check_query(f"{name}[{i}]", label)
    return [above + label for label in tree]


def nest(tree: LabelTree, scores: Sequence[float]) -> dict[str, Any]:
    """A tree of scores in the shape of a tree of labels.

    Args:
        tree: The labels.
        scores: One for each, in the order of ``flatten``. Of equal labels side by side, the last one's stays.

    Example:
        >>> nest({"topic": ["price", "service"], "tone": "calm"}, [0.9, 0.1, 0.5])
        {'topic': {'price': 0.9, 'service': 0.1}, 'tone': {'calm': 0.5}}
    """
    return _build(tree, iter(scores).__next__)


def _build(tree: LabelTree, take: Callable[[], float]) -> dict[str, Any]:
    if isinstance(tree, Mapping):
        return {key: _build(cast("LabelTree", below), take) for key, below in tree.items()}
    return {label: take() for label in ([tree] if isinstance(tree, str) else tree)}
