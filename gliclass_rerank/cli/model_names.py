"""The names that models go by in tables and results."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from pathlib import Path

from gliclass_rerank.cli.terminal import printable

BUNDLED = "bundled"


def name_models(models: Iterable[str | None]) -> dict[str, str | None]:
    """Map a short name to each model: a folder's last part or the hub name, numbered where two are alike.

    Args:
        models: Hub names and folders; None or "bundled" for the bundled model.

    Returns:
        By name, what ``GLiClassReranker.from_pretrained`` takes, in the order of ``models``.

    Example:
        >>> name_models([None, "./bundled", "org/reranker"])
        {'bundled': None, './bundled': './bundled', 'org/reranker': 'org/reranker'}
    """
    named: dict[str, str | None] = {}
    for model in models:
        name = plain = _name(model)
        numbers = count(2)
        while name in named:
            name = f"{plain} ({next(numbers)})"
        named[name] = None if model == BUNDLED else model
    return named


def _name(model: str | None) -> str:
    if model is None:
        return BUNDLED
    folder = Path(model).expanduser()
    return printable(folder.resolve().name if folder.is_dir() else model, "utf-8")
