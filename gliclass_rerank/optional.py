"""Packages that only some features need: the error names the extra to install."""

from __future__ import annotations

import importlib.util


def require(module: str, extra: str) -> None:
    """Check that an optional package is installed, without importing it.

    Args:
        module: The module that is about to be imported.
        extra: The extra of this package that installs it.

    Raises:
        ImportError: The module is not installed; the message says how to install it.

    Example:
        >>> require("json", extra="serve")
    """
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # the parent package is missing too
        spec = None
    if spec is None:
        raise ImportError(f"{module} is not installed: pip install 'gliclass-rerank[{extra}]'.")
