"""What a checkpoint knows besides ranking: zero-shot classification of several checkpoints, side by side.

    python -m benchmarks.knowledge SET... [--model FOLDER --model embedded] [--texts 500]

A set is a folder with test.jsonl (text, label) and labels.json. All its labels go into one prompt,
as they are written but for underscores and camel case, which become spaces; the label with the
highest logit is the answer. Prints a table of macro-F1 and accuracy and writes
results/knowledge.json.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, f1_score

from benchmarks.label_scorer import LabelScorer
from benchmarks.results_file import write_result
from gliclass_rerank.beir_files import read_json_lines
from gliclass_rerank.progress import progress

EMBEDDED = "embedded"
SEED = 0
BLOCK = 256  # texts between two steps of the progress bar; the scorer batches within a block


@dataclass(frozen=True)
class LabelledTexts:
    """Some texts of a set, each with the position of its label in ``words``."""

    name: str
    words: list[str]
    texts: list[str]
    truth: list[int]


def read_set(folder: Path, most: int) -> LabelledTexts:
    """Read labels.json and test.jsonl, ``most`` texts drawn at random; 0 for all."""
    labels: list[str] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    rows = [row for _, row in read_json_lines(folder / "test.jsonl")]
    if most and most < len(rows):
        rows = random.Random(SEED).sample(rows, most)
    return LabelledTexts(
        folder.name,
        [space_words(label) for label in labels],
        [row["text"] for row in rows],
        [labels.index(row["label"]) for row in rows],
    )


def space_words(label: str) -> str:
    """A label as words: "PlayMusic" and "play_music" lose what only programs need."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label.replace("_", " "))


def evaluate(data: LabelledTexts, scorer: LabelScorer, model: str) -> dict[str, Any]:
    """Classify a set's texts and measure the answers."""
    answers: list[int] = []
    for start in progress(range(0, len(data.texts), BLOCK), f"{model}: {data.name}"):
        logits = scorer.logits(data.words, data.texts[start : start + BLOCK])
        answers += logits.argmax(axis=1).tolist()
    return {
        "set": data.name,
        "model": model,
        "dtype": scorer.dtype,
        "labels": len(data.words),
        "texts": len(data.texts),
        "macro-F1": round(float(f1_score(data.truth, answers, average="macro", labels=sorted(set(data.truth)))), 4),
        "accuracy": round(float(accuracy_score(data.truth, answers)), 4),
    }


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Each model by the last parts of its path, as many as tell them apart."""
    parts = [Path(model).parts for model in models]
    for count in range(1, max(map(len, parts)) + 1):
        names = {model: "/".join(part[-count:]) for model, part in zip(models, parts, strict=True)}
        if len(set(names.values())) == len(models):
            break
    return names


def mean_rows(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> list[dict[str, Any]]:
    """For each model a row with its means over the sets."""
    means = []
    for model in models:
        own = [row for row in rows if row["model"] == model]
        measured = {key: round(sum(row[key] for row in own) / len(own), 4) for key in ("macro-F1", "accuracy")}
        means.append({"set": "mean", "model": model, "texts": sum(row["texts"] for row in own), **measured})
    return means


def show(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> None:
    """Print a table: a line for each set, a column for each model."""
    table = Table("set", "texts", *models, title="macro-F1 / accuracy")
    for name in dict.fromkeys(row["set"] for row in rows):
        own = {row["model"]: row for row in rows if row["set"] == name}
        cells = [f"{own[model]['macro-F1']:.3f} / {own[model]['accuracy']:.3f}" for model in models]
        table.add_row(name, str(own[models[0]]["texts"]), *cells)
    Console().print(table)


def main() -> None:
    """Measure, print a table and write results/knowledge.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--model", action="append", help=f"hub name, folder or {EMBEDDED!r}, the default; repeatable")
    parser.add_argument("--texts", type=int, default=0, help="how many of each set, drawn at random; 0 for all")
    options = parser.parse_args()
    names = short_names(list(dict.fromkeys(options.model or [EMBEDDED])))
    sets = [read_set(folder, options.texts) for folder in options.sets]
    rows = []
    for model, name in names.items():
        scorer = LabelScorer(None if model == EMBEDDED else model, "auto")
        rows += [evaluate(data, scorer, name) for data in sets]
    models = list(names.values())
    means = mean_rows(rows, models)
    show([*rows, *means], models)
    write_result("knowledge", {"measure": "single label, all labels in one prompt", "sets": rows, "means": means})


if __name__ == "__main__":
    main()
