"""Benchmarks that compare models, run like a user runs them, on small collections and random weights."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.small_collections import RUN, write

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``python -m benchmarks.NAME`` and reads its result."""

    def run_benchmark(name: str, *arguments: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), "--result", str(tmp_path / "result")])
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
        record: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
        return record

    return run_benchmark


@pytest.fixture
def checkpoint(checkpoint_folder: Callable[..., Path]) -> Path:
    return checkpoint_folder("bert", scorer_type="simple")


# --- the development suite ---------------------------------------------------------------------


def test_the_suite_compares_cosines_and_models_with_bm25(
    run: Run, tmp_path: Path, checkpoint: Path, encoder: Path
) -> None:
    folder = write(tmp_path / "small", run=RUN)
    record = run("development_suite", folder, "--model", "bundled", checkpoint, "--cosine", encoder, "--together")
    names = [f"{encoder.name}, cosine", "bundled", "bundled, 4 together"]
    names += [checkpoint.name, f"{checkpoint.name}, 4 together"]
    assert record["table"]["header"] == ["collection", "queries", "BM25", *names]
    [row] = record["collections"]
    assert list(row["models"]) == names and row["queries"] == 2
    gained = row["models"]["bundled"]["nDCG@10"]["mean"] - row["first stage"]["nDCG@10"]["mean"]
    measured, mean, worst = record["table"]["rows"]
    assert measured[4].endswith(f"({gained:+.3f})") and mean[4].endswith(f"({gained:+.3f})")
    assert worst[4] == f"{gained:+.3f} (small)"


def test_a_training_set_is_searched_even_if_its_passages_are_judged(run: Run, tmp_path: Path, checkpoint: Path) -> None:
    folder = write(tmp_path / "small", qrels=[("q1", "p2", 1), ("q1", "p1", 0)])
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "train.tsv")
    record = run("development_suite", folder, "--model", checkpoint)
    assert record["collections"][0]["candidates"] == "BM25, first 50"


def test_the_suite_draws_the_same_queries_each_time(run: Run, tmp_path: Path, checkpoint: Path) -> None:
    folder = write(tmp_path / "small")
    arguments = ["development_suite", folder, "--model", checkpoint, "--queries", 2]
    first, second = run(*arguments)["collections"], run(*arguments)["collections"]
    assert first == second and first[0]["queries"] == 2
