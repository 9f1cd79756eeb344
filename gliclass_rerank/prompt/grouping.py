"""Which labels share a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


def group_labels(labels: Iterable[str], fits: Callable[[Sequence[str]], bool]) -> list[list[str]]:
    """Part labels into groups, in order, each as large as fits; a label that does not fit at all is one alone.

    Args:
        labels: The labels.
        fits: Whether a prompt takes some labels together.

    Example:
        >>> group_labels(["a", "b", "long", "c"], lambda group: len("".join(group)) <= 2)
        [['a', 'b'], ['long'], ['c']]
    """
    groups: list[list[str]] = []
    for label in labels:
        if groups and fits([*groups[-1], label]):
            groups[-1].append(label)
        else:
            groups.append([label])
    return groups
