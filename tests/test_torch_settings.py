"""Scores do not depend on what the caller set in torch, and scoring changes nothing for the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from gliclass_rerank import GLiClassReranker
from tests.conftest import PASSAGES

QUERY = "does bread rise?"


@contextmanager
def matmul_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def no_gradients() -> Iterator[None]:
    with torch.set_grad_enabled(False):
        yield
        assert not torch.is_grad_enabled()


SETTINGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "matmul precision": matmul_precision,
    "default dtype": default_dtype,
    "default device": default_device,
    "deterministic algorithms": deterministic,
    "no gradients": no_gradients,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("encoder", ["bert", "deberta-v2", "modernbert"])
def test_a_caller_s_setting_changes_no_score(
    setting: str, encoder: str, checkpoint_folder: Callable[..., Path]
) -> None:
    folder = checkpoint_folder(encoder, scorer_type="mlp", pooling_strategy="avg")
    expected = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32").score(QUERY, PASSAGES)
    loaded_before = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32", max_length=500)
    with SETTINGS[setting]():
        assert loaded_before.score(QUERY, PASSAGES) == expected


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_model_loads_the_same_under_a_caller_s_setting(setting: str, checkpoint_folder: Callable[..., Path]) -> None:
    folder = checkpoint_folder("modernbert", scorer_type="mlp", pooling_strategy="avg")
    scores = []
    for surroundings in (nullcontext, SETTINGS[setting]):
        with surroundings():
            # Each reranker is dropped before the next is made, so the checkpoint is read again.
            scores.append(
                GLiClassReranker.from_pretrained(folder, device="cpu", dtype="float32").score(QUERY, PASSAGES)
            )
    assert scores[0] == scores[1]


def test_the_caller_s_settings_come_back_when_threads_overlap(bundled: GLiClassReranker) -> None:
    with matmul_precision():
        threads = [threading.Thread(target=bundled.score, args=(QUERY, PASSAGES)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="this PyTorch has one setting for all")
def test_an_inherited_precision_stays_inherited(bundled: GLiClassReranker) -> None:
    before = torch.backends.fp32_precision
    try:
        torch.backends.fp32_precision = "tf32"
        bundled.score(QUERY, PASSAGES)
        torch.backends.fp32_precision = "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    finally:
        torch.backends.fp32_precision = before
