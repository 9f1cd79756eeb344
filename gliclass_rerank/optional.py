"""Checks for packages that only some features need, so that an error names the command that installs them."""

from __future__ import annotations

import importlib.util

# The command has to work in a clone, with a wheel and offline, so it names the packages of pyproject.toml's
# extras and not the extra itself. A test compares the two.
_PACKAGES = {
    "langchain": ("langchain-core",),
    "llama-index": ("llama-index-core",),
    "haystack": ("haystack-ai",),
    "train": ("peft", "accelerate", "ir-measures", "scikit-learn"),
    "eval": ("ir-measures", "scikit-learn", "scipy", "matplotlib"),
    "serve": ("fastapi", "uvicorn", "prometheus-client"),
    "ray": ("fastapi", "uvicorn", "prometheus-client", "ray[serve,data]<2.64"),
}


def require(module: str, extra: str) -> None:
    """Check that an optional package is installed, without importing it.

    Args:
        module: The module that the caller is about to import.
        extra: The extra of this package that it belongs to.

    Raises:
        ImportError: The module is not installed. The message has the command that installs it.

    Example:
        >>> require("json", extra="serve")
    """
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # the parent package is missing too
        spec = None
    if spec is None:
        raise ImportError(f"{module} is not installed. Run: {install_command(extra)}")


def install_command(extra: str) -> str:
    """The command that installs what an extra needs.

    Args:
        extra: An extra of this package.

    Raises:
        KeyError: There is no such extra.

    Example:
        >>> install_command("langchain")
        'pip install langchain-core'
    """
    # Double quotes, because Windows' shell does not know single ones.
    quoted = (f'"{package}"' if "[" in package else package for package in _PACKAGES[extra])
    return " ".join(("pip install", *quoted))
