"""One copy of each model in the process, however many rerankers use it."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gliclass_rerank.engine.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from gliclass_rerank.engine.scorer import GLiClassScorer, choose_device, choose_dtype
from gliclass_rerank.engine.torch_settings import own_torch_settings
from gliclass_rerank.validation import Dtype, check_count


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A checkpoint and its scorer; freed with the last reranker that holds it.

    Attributes:
        checkpoint: The checkpoint.
        scorer: Runs its network.
        model: The name that loads it again from any working directory: an absolute path, a hub name, or None for the
            model inside this package.
    """

    checkpoint: Checkpoint
    scorer: GLiClassScorer
    model: str | None = None

    def choose_length(self, max_length: int | None) -> int:
        """Check the number of tokens per sequence.

        Args:
            max_length: Tokens per sequence; None for the checkpoint's default.

        Raises:
            TypeError: ``max_length`` is not an int.
            ValueError: It is not positive, or the encoder has fewer positions.
        """
        check_count("max_length", max_length)
        chosen, positions = max_length or self.checkpoint.max_length, self.checkpoint.config.max_positions
        if self.checkpoint.config.has_absolute_positions and chosen > positions:
            raise ValueError(
                f"max_length is {chosen}, but {self.checkpoint.name} has positions for only {positions} tokens. "
                f"Choose at most {positions}."
            )
        return chosen


_logger = logging.getLogger("gliclass_rerank")
_models: weakref.WeakValueDictionary[tuple[Any, ...], LoadedModel] = weakref.WeakValueDictionary()
_loading = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _loading, _forked
    _loading = threading.Lock()  # a thread of the parent may have held the old one
    _forked = True


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)


def _use_one_thread_after_fork() -> None:
    """Make torch compute with one thread in a forked process.

    The parent's OpenMP threads are not in it, and a computation with several threads would wait for them forever.
    """
    if _forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        _logger.warning(
            "this process was forked from one that had loaded a model, so torch computes with one thread in it. "
            "For more threads, start processes with multiprocessing's 'spawn' method or load the first model in them."
        )


def load_model(
    model: str | None, *, revision: str | None, token: str | None, device: str | None, dtype: Dtype
) -> LoadedModel:
    """Load a model, or return the one in memory for the same checkpoint, revision, device and dtype.

    In a forked process torch computes with one thread from then on.

    Args:
        model: A local folder or a hub name; None for the model inside this package.
        revision: Branch, tag or commit on the hub.
        token: Access token for the hub.
        device: "cpu", "cuda", "cuda:1", "mps"; None for the first of CUDA, MPS and CPU.
        dtype: Precision of the encoder; "auto" for bf16 where the hardware runs it fast, else fp32.

    Raises:
        CheckpointError: The checkpoint is missing, incomplete, damaged or unsupported.
        ValueError: The device is unknown or absent, or the dtype unknown.

    Example:
        >>> options = {"revision": None, "token": None, "device": "cpu", "dtype": "float32"}
        >>> first, second = load_model(None, **options), load_model(None, **options)
        >>> first is second
        True
    """
    _use_one_thread_after_fork()
    model = _resolve(model)
    chosen = choose_device(device)
    # The process is part of the key: a forked one must not get its parent's model.
    key = (_fingerprint(model), revision, chosen, choose_dtype(dtype, chosen), os.getpid())
    loaded = _models.get(key)  # a model in memory need not wait for another one's download
    if loaded is not None:
        return loaded
    with _loading:  # one at a time, so that two threads that load it at the same moment share it
        loaded = _models.get(key)
        if loaded is None:
            # Before torch's settings are replaced for every thread: a download may take minutes.
            folder = find_checkpoint(model, revision=revision, token=token)
            with own_torch_settings(chosen), torch.inference_mode(False):  # weights are ordinary tensors
                checkpoint = read_checkpoint(folder, model)
                scorer = GLiClassScorer(checkpoint.network, device=device, dtype=dtype)
                loaded = LoadedModel(checkpoint, scorer, model)
            _models[key] = loaded
    return loaded


def _resolve(model: str | None) -> str | None:
    """An absolute path for a folder, so that a later chdir or a pickle does not lose it; else the hub name."""
    try:
        folder = None if model is None else Path(model).expanduser()
        return str(folder.resolve()) if folder is not None and model and folder.is_dir() else model
    except (OSError, RuntimeError, ValueError):  # not a path; loading says why
        return model


def _fingerprint(model: str | None) -> object:
    """A value that differs between checkpoints, and changes with the files of a folder."""
    if model is None:
        return None
    try:
        folder = Path(model)
        files = sorted((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in folder.iterdir())
    except (OSError, ValueError):  # a hub name, or an error when it is loaded
        return model
    return folder, tuple(files)
