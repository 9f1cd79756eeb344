"""One copy of each model in the process, and no longer than somebody uses it."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gliclass_rerank import CheckpointError, GLiClassReranker
from gliclass_rerank.adapter import LazyReranker
from gliclass_rerank.engine import checkpoint, loading

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


def test_torch_keeps_its_settings_while_a_model_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.dtype, bool]] = []

    def download(name: str, **options: object) -> str:
        seen.append((torch.get_default_dtype(), torch.is_inference_mode_enabled()))
        raise OSError("no network")

    monkeypatch.setattr(checkpoint, "snapshot_download", download)
    torch.set_default_dtype(torch.float64)  # a caller's setting
    try:
        with pytest.raises(CheckpointError, match="no network"):
            GLiClassReranker.from_pretrained("someone/reranker", **FP32)
    finally:
        torch.set_default_dtype(torch.float32)
    assert seen == [(torch.float64, False)]


def test_pickles_and_options_do_not_hold_the_token(folder: Path) -> None:
    assert b"hf_secret" not in pickle.dumps(GLiClassReranker.from_pretrained(folder, token="hf_secret", **FP32))


def test_a_model_in_a_relative_folder_has_an_absolute_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    loaded = loading.load_model("checkpoint", revision=None, token=None, **FP32)
    assert loaded.model == str(folder.resolve())


_FORK = """
import os, signal, sys
import torch
torch.set_num_threads(4)
from langchain_gliclass_rerank import GLiClassRerank
from gliclass_rerank import GLiClassReranker
passages = ["Tea is brewed. " * 20] * 40
adapter = GLiClassRerank(device="cpu", dtype="float32")
if sys.argv[1] == "used":
    parent = GLiClassReranker.from_pretrained(device="cpu", dtype="float32")
    parent.score("tea", passages)  # starts OpenMP's threads, which a child does not have
child = os.fork()
if child == 0:
    signal.alarm(120)
    if sys.argv[1] == "used":
        reranker = GLiClassReranker.from_pretrained(device="cpu", dtype="float32")
        assert reranker.score("tea", passages)[0] > 0.5
    else:
        from langchain_core.documents import Document
        hits = adapter.compress_documents([Document(page_content=p) for p in passages], "tea")
        assert hits[0].metadata["relevance_score"] > 0.5
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("parent", ["lazy", "used"])
def test_a_forked_process_loads_a_model_and_scores(parent: str) -> None:
    """As under gunicorn with preloading (a lazy adapter) and Celery (after a forward pass in the parent)."""
    done = subprocess.run([sys.executable, "-c", _FORK, parent], capture_output=True, text=True, check=True)
    assert done.stdout == "7\n", done.stderr


def _rank_in_forked_process(lazy: LazyReranker, queue: multiprocessing.SimpleQueue[list[int]]) -> None:
    queue.put([hit.index for hit in lazy.rank("does bread rise?", ["Rain falls.", "Bread rises."])])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_an_adapter_that_ranked_before_a_fork_ranks_in_the_forked_process_too() -> None:
    lazy = LazyReranker(device="cpu", dtype="float32")
    expected = [hit.index for hit in lazy.rank("does bread rise?", ["Rain falls.", "Bread rises."])]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_rank_in_forked_process, args=(lazy, queue), daemon=True)
    child.start()
    child.join(60)
    assert not child.is_alive() and queue.get() == expected


def _rank_with_ready_reranker(ready: GLiClassReranker, queue: multiprocessing.SimpleQueue[int]) -> None:
    lazy = LazyReranker(ready)
    options = {"model": ready}
    queue.put(sum(len(lazy.update(options).rank("tea", ["Tea is brewed."])) for _ in range(3)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_ready_reranker_of_the_parent_is_loaded_again_in_a_forked_process() -> None:
    ready = GLiClassReranker.from_pretrained(device="cpu", dtype="float32")
    ready.score("tea", ["Tea is brewed."])
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_rank_with_ready_reranker, args=(ready, queue), daemon=True)
    child.start()
    child.join(60)
    assert not child.is_alive() and queue.get() == 3
