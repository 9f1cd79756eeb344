"""Benchmarks that compare models, run like a user runs them, on small collections and random weights."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification

from gliclass_rerank.evaluation import evaluate, read_collection
from tests.random_checkpoints import write_encoder
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


# --- peers -------------------------------------------------------------------------------------


def test_a_cross_encoder_is_measured_like_its_own_logits_pair_by_pair(run: Run, tmp_path: Path) -> None:
    peer = write_encoder(tmp_path / "peer", BertForSequenceClassification)
    folder = write(tmp_path / "small")
    record = run("peers", folder, "--peer", peer)
    tokenizer = AutoTokenizer.from_pretrained(peer)
    network = AutoModelForSequenceClassification.from_pretrained(peer, dtype="float32").eval()

    def score(query: str, passages: list[str]) -> list[float]:
        with torch.no_grad():
            return [network(**tokenizer(query, p, return_tensors="pt")).logits.item() for p in passages]

    [row] = record["collections"]
    expected = evaluate(read_collection(folder), score).reranked["nDCG@10"].mean
    assert row["models"]["peer (cross-encoder)"]["nDCG@10"]["mean"] == round(expected, 4)
    [small, _] = record["baseline"]["models"]["peer (cross-encoder)"]
    bundled = row["models"]["bundled"]["nDCG@10"]["mean"]
    assert record["baseline"]["model"] == "bundled" and small["difference"] == pytest.approx(
        expected - bundled, abs=1e-3
    )


def test_a_bare_encoder_is_refused_as_a_cross_encoder(run: Run, tmp_path: Path, encoder: Path) -> None:
    with pytest.raises(SystemExit, match="is not a cross-encoder with one label"):
        run("peers", write(tmp_path / "small"), "--peer", encoder)


# --- junk --------------------------------------------------------------------------------------


def test_junk_is_counted_where_it_beats_the_best_right_passage_and_where_it_beats_any(run: Run, tmp_path: Path) -> None:
    qrels = [("q1", "answer", 1), ("q1", "nothing", 1), ("q2", "nothing", 1)]
    folder = write(tmp_path / "small", qrels=qrels)
    with (folder / "corpus.jsonl").open("a") as corpus:
        corpus.write(json.dumps({"_id": "answer", "text": "How do plants make sugar? Plants make sugar from light."}))
        corpus.write("\n" + json.dumps({"_id": "nothing", "text": "\u200b"}) + "\n")  # without a token: scored 0
    record = run("junk", folder, "--queries", 2)
    assert record["counts"]["**any of these**"] == {"the best right passage": 1, "a right passage": 2}
    assert record["table"]["rows"][0] == ["placeholders", "1 of 2", "2 of 2"]
    beaten = {(row["query"], row["the best right passage"]) for row in record["beaten"] if row["kind"] == "menus"}
    assert beaten == {("q1", False), ("q2", True)}
