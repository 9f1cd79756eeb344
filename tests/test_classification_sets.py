"""Sets of labelled texts: how they are read, what is counted, and the command ``eval`` over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from transformers import BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

from gliclass_rerank import ZeroShotClassifier
from gliclass_rerank.cli.app import app
from gliclass_rerank.engine.checkpoint import load_checkpoint
from gliclass_rerank.evaluation.classification import (
    LabelledTexts,
    as_words,
    evaluate_classification,
    nli_classifier,
    read_labelled_texts,
)
from tests.json_lines import write_rows
from tests.small_collections import RUN, write

runner = CliRunner()
ROWS = [
    {"text": "The match ended in a draw.", "label": "sports"},
    {"text": "Fold the flour into the butter.", "label": "homeCooking"},
    {"text": "The striker scored twice.", "label": "sports"},
]
LABELS = ["sports", "homeCooking", "world_politics"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "news"
    path.mkdir()
    (path / "labels.json").write_text(json.dumps(LABELS))
    write_rows(path / "test.jsonl", *ROWS)
    return path


def test_labels_are_shown_as_words_or_as_one_likes(folder: Path) -> None:
    data = read_labelled_texts(folder)
    assert (data.name, data.labels, data.truth) == ("news", ["sports", "home Cooking", "world politics"], [0, 1, 0])
    assert data.texts == [row["text"] for row in ROWS]
    assert read_labelled_texts(folder, wording=["a", "b", "c"]).labels == ["a", "b", "c"]
    assert len(read_labelled_texts(folder, texts=2).texts) == 2
    assert as_words("SearchScreeningEvent") == "Search Screening Event"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels.json", '{"a": 1}', "expected a list of at least two different labels"),
        ("labels.json", '["a", "a"]', "expected a list of at least two different labels"),
        ("labels.json", '["a", 3]', r"labels.json\[1\] is an int"),
        ("labels.json", '["a", " "]', r"labels.json\[1\] is ' '"),
        ("labels.json", "[", "labels.json is not JSON"),
        ("test.jsonl", '{"text": "a", "label": "weather"}', "test.jsonl:1"),
        ("test.jsonl", '{"label": "sports"}', "test.jsonl:1"),
        ("test.jsonl", "", "holds no texts"),
    ],
)
def test_a_set_that_is_broken_is_named(file: str, content: str, message: str, folder: Path) -> None:
    (folder / file).write_text(content)
    with pytest.raises((TypeError, ValueError), match=message):
        read_labelled_texts(folder)


def test_labels_that_are_the_same_words_stay_as_they_are(folder: Path) -> None:
    (folder / "labels.json").write_text('["PlayMusic", "Play_Music", "sports", "homeCooking"]', encoding="utf-8-sig")
    assert read_labelled_texts(folder).labels == ["PlayMusic", "Play_Music", "sports", "homeCooking"]


@pytest.mark.parametrize("wording", [["a", "b"], ["a", "b", "b"]])
def test_a_wording_has_to_name_each_label(wording: list[str], folder: Path) -> None:
    with pytest.raises(ValueError, match="wording has 2 different labels, expected 3"):
        read_labelled_texts(folder, wording=wording)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=600))
def test_what_is_counted(pairs: list[tuple[int, int]]) -> None:
    truth, answers = map(list, zip(*pairs, strict=True))
    rest = iter(answers)
    data = LabelledTexts("x", LABELS, ["text"] * len(pairs), truth)
    result = evaluate_classification(data, lambda texts, labels: [labels[next(rest)] for _ in texts])
    assert result.accuracy == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    by_label = [f1_score([t == i for t in truth], [a == i for a in answers], zero_division=0) for i in set(truth)]
    assert result.macro_f1 == pytest.approx(sum(by_label) / len(by_label))


@pytest.fixture
def inference_model(tmp_path: Path) -> Path:
    """A cross-encoder with random weights, as transformers saves one."""
    path = tmp_path / "crossing"
    tokenizer = load_checkpoint().tokenizer
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config = BertConfig(vocab_size=len(tokenizer), id2label=names, label2id={n: i for i, n in names.items()}, **shape)
    BertForSequenceClassification(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_cross_encoder_gives_one_of_the_labels(inference_model: Path, folder: Path) -> None:
    data = read_labelled_texts(folder)
    answers = nli_classifier(inference_model, "cpu")([*data.texts, ""], data.labels)
    assert len(answers) == 4 and set(answers) <= set(data.labels)


def test_a_model_that_infers_nothing_is_refused(inference_model: Path) -> None:
    config = json.loads((inference_model / "config.json").read_text())
    config["id2label"] = {"0": "bad", "1": "so-so", "2": "good"}
    config["label2id"] = {"bad": 0, "so-so": 1, "good": 2}
    (inference_model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="has no label 'entailment'"):
        nli_classifier(inference_model, "cpu")


def test_eval_puts_classifiers_side_by_side(folder: Path, inference_model: Path, tmp_path: Path) -> None:
    arguments = ["eval", str(folder), "--nli", str(inference_model), "--dtype", "float32", "--device", "cpu"]
    result = runner.invoke(app, [*arguments, "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert json.loads((tmp_path / "out.json").read_text()) == record
    [row] = record["classification"]
    assert (row["dataset"], row["labels"], row["texts"]) == ("news", 3, 3) and "collections" not in record
    assert list(row["models"]) == ["bundled", "crossing (NLI)"]
    classifier = ZeroShotClassifier.from_pretrained(device="cpu", dtype="float32", classification_type="single-label")
    shown = read_labelled_texts(folder).labels
    predictions: list[Any] = classifier([r["text"] for r in ROWS], shown)
    right = sum(
        shown.index(best["label"]) == LABELS.index(r["label"]) for [best], r in zip(predictions, ROWS, strict=True)
    )
    assert row["models"]["bundled"]["accuracy"] == round(right / 3, 4)
    assert record["average macro-F1"]["bundled"] == row["models"]["bundled"]["macro-F1"]


def test_eval_takes_collections_and_sets_of_texts_together(folder: Path, tmp_path: Path) -> None:
    collection = write(tmp_path / "small", run=RUN)
    words = tmp_path / "words.json"
    words.write_text(json.dumps(["a match", "a meal", "an election"]))
    result = runner.invoke(app, ["eval", str(collection), str(folder), "--labels", str(words)])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert [row["collection"] for row in record["collections"]] == ["small"]
    assert [row["dataset"] for row in record["classification"]] == ["news"]
    assert "scikit-learn" in record["versions"] and "ir-measures" in record["versions"]


def test_eval_says_that_texts_were_cut(folder: Path) -> None:
    write_rows(folder / "test.jsonl", {"text": "draw " * 1000, "label": "sports"}, *ROWS)
    result = runner.invoke(app, ["eval", str(folder)])
    assert result.stderr.strip() == "note: 1 of 4 texts were cut to 512 tokens, first texts[0]."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}", "--labels", "{folder}/test.jsonl"], "test.jsonl is not JSON"),
        (["{folder}", "--plot", "x.png"], "--plot needs a collection in BEIR layout, and there is none"),
        (["{folder}", "{folder}", "--labels", "x.json"], "--labels are those of one set of labelled texts, but 2"),
        (["elsewhere", "--nli", "x"], "--nli classifies labelled texts, and no folder has a labels.json"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str], message: str, folder: Path) -> None:
    result = runner.invoke(app, ["eval", *(a.format(folder=folder) for a in arguments)])
    assert result.exit_code == 2 and message in result.stderr
