"""What all adapters share: a reranker loaded at first use, and a clear word where a framework is missing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from gliclass_rerank.reranker import GLiClassReranker, RankedPassage, RerankerOptions
from gliclass_rerank.validation import Dtype, check_count, check_dtype, check_query, check_texts, check_threshold


def require_framework(module: str, extra: str) -> None:
    """Say which extra to install where a framework is missing.

    Args:
        module: What is imported of the framework.
        extra: The extra of this package that brings it.

    Raises:
        ImportError: It is not installed.

    Example:
        >>> require_framework("json", extra="none")
    """
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # not even the package that it lies in
        found = None
    if found is None:
        raise ImportError(f"{module} is not installed: pip install 'gliclass-rerank[{extra}]'.")


class LazyReranker:
    """A reranker that is loaded when it is first needed. Threads may share one; pickling leaves the weights out.

    Args:
        model: A hub name, a local folder, a ready ``GLiClassReranker`` (the other options are then
            its own, and none may be given), or None for the model inside this package.
        device: See ``GLiClassReranker.from_pretrained``.
        dtype: See there.
        max_length: See there.
        revision: See there.

    Raises:
        TypeError: ``model`` or ``max_length`` is of another type.
        ValueError: ``dtype`` or ``max_length`` cannot be had, or an option comes with a ready reranker.

    Example:
        >>> LazyReranker(device="cpu").rank("tea", ["Rain falls.", "Tea is brewed."], top_k=1)[0].index
        1
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | GLiClassReranker | None = None,
        *,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int | None = None,
        revision: str | None = None,
    ) -> None:
        self._ready: GLiClassReranker | None = None
        if isinstance(model, GLiClassReranker):
            if (device, dtype, max_length, revision) != (None, "auto", None, None):
                raise ValueError(
                    "model is a ready GLiClassReranker, so device, dtype, max_length and revision are its own. "
                    "Give them to GLiClassReranker.from_pretrained instead."
                )
            self._ready = model
            self.options = model.options
            return
        if model is not None and not isinstance(model, (str, os.PathLike)):
            raise TypeError(
                f"model is a {type(model).__name__}, expected a name, a folder, a GLiClassReranker or None."
            )
        check_dtype(dtype)
        check_count("max_length", max_length)
        name = None if model is None else os.fspath(model)
        self.options = RerankerOptions(name, device, dtype, max_length, revision)

    def load(self, get_token: Callable[[], str | None] = lambda: None) -> GLiClassReranker:
        """The reranker, loaded now if it was not before.

        Args:
            get_token: Gives the access token for the hub; called only where one may be needed.

        Raises:
            CheckpointError: See ``GLiClassReranker.from_pretrained``.
            ValueError: See there.
        """
        if self._ready is None:  # two threads at once may both come here; they get the same weights
            token = None if self.options.model is None else get_token()
            self._ready = GLiClassReranker.from_pretrained(**asdict(self.options), token=token)
        return self._ready

    def rank(
        self, query: str, texts: Iterable[str], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[RankedPassage]:
        """``GLiClassReranker.rank``, but for no texts nothing is loaded."""
        check_count("top_k", top_k)
        check_threshold("threshold", threshold)
        check_query("query", query)
        passages = check_texts("texts", texts)
        return self.load().rank(query, passages, top_k=top_k, threshold=threshold) if passages else []

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "_ready": None}
