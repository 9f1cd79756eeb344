"""One copy of each model in the process, however many rerankers look through it."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gliclass_rerank.engine.checkpoint import Checkpoint, load_checkpoint
from gliclass_rerank.engine.scorer import GLiClassScorer, choose_device, choose_dtype
from gliclass_rerank.engine.torch_settings import own_torch_settings
from gliclass_rerank.validation import Dtype, check_count


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A checkpoint and what runs it; freed with the last reranker that holds it."""

    checkpoint: Checkpoint
    scorer: GLiClassScorer

    def choose_length(self, max_length: int | None) -> int:
        """Tokens per sequence: those that were asked for, checked, or what suits the checkpoint.

        Raises:
            TypeError: ``max_length`` is no int.
            ValueError: It is not positive, or more than the encoder can tell apart.
        """
        check_count("max_length", max_length)
        chosen, positions = max_length or self.checkpoint.max_length, self.checkpoint.config.max_positions
        if self.checkpoint.config.has_absolute_positions and chosen > positions:
            raise ValueError(
                f"max_length is {chosen}, but {self.checkpoint.name} can tell only {positions} tokens apart."
            )
        return chosen


_models: weakref.WeakValueDictionary[tuple[Any, ...], LoadedModel] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def _renew_lock() -> None:
    global _loading
    _loading = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)  # a thread of the parent may have held it


def load_model(
    model: str | None, *, revision: str | None, token: str | None, device: str | None, dtype: Dtype
) -> LoadedModel:
    """Load a model, or take the one that is in memory for the same checkpoint, revision, device and dtype.

    Args:
        model: A local folder or a hub name; None for the model inside this package.
        revision: Branch, tag or commit on the hub.
        token: Access token for the hub.
        device: See ``GLiClassScorer``.
        dtype: See ``GLiClassScorer``.

    Raises:
        CheckpointError: See ``load_checkpoint``.
        ValueError: See ``GLiClassScorer``.

    Example:
        >>> options = {"revision": None, "token": None, "device": "cpu", "dtype": "float32"}
        >>> first, second = load_model(None, **options), load_model(None, **options)
        >>> first is second
        True
    """
    chosen = choose_device(device)
    # The process: a forked one must not be given its parent's.
    key = (_identity(model), revision, chosen, choose_dtype(dtype, chosen), os.getpid())
    loaded = _models.get(key)  # what is in memory need not wait for another model's download
    if loaded is not None:
        return loaded
    with _loading:  # one at a time, so that two threads that ask at the same moment get the same
        loaded = _models.get(key)
        if loaded is None:
            with own_torch_settings(chosen), torch.inference_mode(False):  # weights are ordinary tensors
                checkpoint = load_checkpoint(model, revision=revision, token=token)
                loaded = LoadedModel(checkpoint, GLiClassScorer(checkpoint.network, device=device, dtype=dtype))
            _models[key] = loaded
    return loaded


def _identity(model: str | None) -> object:
    """What tells one checkpoint from another: a folder is another one when its files have changed."""
    if model is None:
        return None
    try:
        folder = Path(model).expanduser().resolve()
        files = sorted((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in folder.iterdir())
    except (OSError, RuntimeError, ValueError):  # no folder: a name on the hub, or an error when it is loaded
        return model
    return folder, tuple(files)
