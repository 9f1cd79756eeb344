"""Hierarchical labels: {"topic": ["price", "service"]} becomes the labels "topic.price" and "topic.service"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from gliclass_rerank.validation import check_query, kind

# A list of labels, or a dict from names to such lists or dicts.
LabelTree = Sequence[str] | Mapping[str, Any]


def flatten(tree: LabelTree, separator: str, name: str = "labels", above: str = "") -> list[str]:
    """The labels of a tree, each with the names above it in front, in the order of the official library.

    Args:
        tree: A list of labels, or a dict of names and trees (a str is a list of one).
        separator: Between a name and what is below it.
        name: The name of the tree in an error message.
        above: The levels above the tree, written in front of every label.

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
        return [above + check_query(name, tree)]
    if not isinstance(tree, Sequence) or isinstance(tree, (bytes, bytearray)):
        raise TypeError(f"{name} is {kind(tree)}; expected a list of str, or a dict of lists.")
    return [above + check_query(f"{name}[{i}]", label) for i, label in enumerate(tree)]


def nest(tree: LabelTree, scores: Sequence[float]) -> dict[str, Any]:
    """A tree of scores in the shape of a tree of labels.

    Args:
        tree: The labels.
        scores: One per label, in the order of ``flatten``. Equal labels side by side have the last one's score.

    Example:
        >>> nest({"topic": ["price", "service"], "tone": "calm"}, [0.9, 0.1, 0.5])
        {'topic': {'price': 0.9, 'service': 0.1}, 'tone': {'calm': 0.5}}
    """
    return _build(tree, iter(scores).__next__)


def _build(tree: LabelTree, take: Callable[[], float]) -> dict[str, Any]:
    if isinstance(tree, Mapping):
        return {key: _build(cast("LabelTree", below), take) for key, below in tree.items()}
    return {label: take() for label in ([tree] if isinstance(tree, str) else tree)}
