"""One copy of each model in the process, and no longer than somebody uses it."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.engine import loading

FP32 = {"device": "cpu", "dtype": "float32"}
PASSAGES = ["Tea is brewed.", "Rain falls."]


@pytest.fixture
def folder(checkpoint_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A checkpoint that no other test has loaded."""
    shutil.copytree(checkpoint_folder(scorer_type="simple"), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_rerankers_of_one_checkpoint_share_its_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = GLiClassReranker.from_pretrained(folder, **FP32)
    monkeypatch.chdir(folder.parent)
    others = [
        GLiClassReranker.from_pretrained("checkpoint", **FP32),  # the same folder by another name
        GLiClassReranker.from_pretrained(folder, device="cpu:0", dtype="float32", max_length=64),
    ]
    assert all(other.engine.model is first.engine.model for other in others)
    assert [first.max_length != 64, others[1].max_length] == [True, 64]


def test_another_dtype_or_other_files_are_other_weights(folder: Path, checkpoint_folder: Callable[..., Path]) -> None:
    first = GLiClassReranker.from_pretrained(folder, **FP32)
    before = first.score("tea", PASSAGES)
    half = GLiClassReranker.from_pretrained(folder, device="cpu", dtype="bfloat16")
    assert half.engine.model is not first.engine.model
    shutil.copytree(checkpoint_folder(scorer_type="mlp"), folder, dirs_exist_ok=True)
    trained_again = GLiClassReranker.from_pretrained(folder, **FP32)
    assert trained_again.score("tea", PASSAGES) != before
    assert first.score("tea", PASSAGES) == before


def test_weights_are_freed_with_the_last_reranker(folder: Path) -> None:
    first, second = (GLiClassReranker.from_pretrained(folder, **FP32) for _ in range(2))
    loaded = weakref.ref(first.engine.model)
    del first
    gc.collect()
    assert loaded() is second.engine.model
    del second
    gc.collect()
    assert loaded() is None


def test_a_pickled_reranker_loads_its_checkpoint_again(folder: Path) -> None:
    reranker = GLiClassReranker.from_pretrained(folder, max_length=100, **FP32)
    scores, options = reranker.score("tea", PASSAGES), reranker.options
    packed = pickle.dumps(reranker)
    del reranker
    gc.collect()
    again = pickle.loads(packed)
    assert (again.score("tea", PASSAGES), again.options) == (scores, options)


def test_a_copy_is_the_reranker_itself(folder: Path) -> None:
    reranker = GLiClassReranker.from_pretrained(folder, **FP32)
    shutil.rmtree(folder)
    assert copy.copy(reranker) is copy.deepcopy(reranker) is reranker


def test_a_model_in_memory_does_not_wait_for_another_s_loading(folder: Path) -> None:
    reranker = GLiClassReranker.from_pretrained(folder, **FP32)
    with loading._loading:  # as if another model were being downloaded
        assert GLiClassReranker.from_pretrained(folder, **FP32).engine.model is reranker.engine.model


def test_a_token_is_not_kept(folder: Path) -> None:
    assert b"hf_secret" not in pickle.dumps(GLiClassReranker.from_pretrained(folder, token="hf_secret", **FP32))
