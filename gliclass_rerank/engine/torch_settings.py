"""Scores must not depend on what a caller set globally in torch, nor may scoring change it for the caller."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch

_lock = threading.Lock()
_active = 0  # forward passes that run now, in any thread
_callers_settings: _Settings | None = None


class _Settings(NamedTuple):
    """The settings that belong to the process."""

    dtype: torch.dtype
    deterministic: bool
    warn_only: bool
    precisions: tuple[str, ...]  # of fp32 products, one per back end


_OWN = _Settings(
    torch.float32, False, False, ("ieee", "ieee") if hasattr(torch.backends.mkldnn, "matmul") else ("highest",)
)


@contextmanager
def own_torch_settings(device: torch.device) -> Iterator[None]:
    """Run a forward pass as if the caller had left torch's global settings alone.

    Autocast, gradients and the default device belong to a thread and are overridden in it. Matmul
    precision, default dtype and deterministic mode belong to the process: the first pass that
    begins replaces them and the last one that ends puts the caller's back.

    Args:
        device: Where the pass runs.

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> with own_torch_settings(torch.device("cpu")):
        ...     torch.ones(1).dtype
        torch.float32
        >>> torch.ones(1).dtype
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        # Entering a device costs time in every operation, so only where the caller has chosen one.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(device)
        _begin()
        stack.callback(_end)
        yield


def _begin() -> None:
    global _active, _callers_settings
    with _lock:
        if not _active:
            _callers_settings = _read()
            _write(_OWN, _callers_settings)
        _active += 1


def _end() -> None:
    global _active, _callers_settings
    with _lock:
        _active -= 1
        if not _active and _callers_settings is not None:
            _write(_callers_settings, _OWN)
            _callers_settings = None


def _after_fork() -> None:
    """Undo what a thread of the parent process was in the middle of: it does not run in this process."""
    global _lock, _active, _callers_settings
    _lock = threading.Lock()
    if _active and _callers_settings is not None:
        _write(_callers_settings, _OWN)
    _active, _callers_settings = 0, None


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)


def _read() -> _Settings:
    if len(_OWN.precisions) == 1:  # before PyTorch 2.9
        precisions: tuple[str, ...] = (torch.get_float32_matmul_precision(),)
    else:
        cpu: Any = torch.backends.mkldnn  # typed without what PyTorch adds to it
        precisions = (cpu.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision)
    deterministic = torch.are_deterministic_algorithms_enabled()
    return _Settings(
        torch.get_default_dtype(), deterministic, torch.is_deterministic_algorithms_warn_only_enabled(), precisions
    )


def _write(settings: _Settings, current: _Settings) -> None:
    if settings.dtype != current.dtype:
        torch.set_default_dtype(settings.dtype)
    if settings[1:3] != current[1:3]:
        torch.use_deterministic_algorithms(settings.deterministic, warn_only=settings.warn_only)
    if settings.precisions == current.precisions:
        return
    if len(settings.precisions) == 1:
        torch.set_float32_matmul_precision(settings.precisions[0])
    else:
        backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cuda)
        for backend, precision in zip(backends, settings.precisions, strict=True):
            backend.matmul.fp32_precision = "none"  # inherits the general setting
            if backend.matmul.fp32_precision != precision:
                backend.matmul.fp32_precision = precision
