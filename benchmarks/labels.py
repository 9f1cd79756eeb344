"""Time one text with 1 to 128 labels: one pass for all of them, or a cross-encoder's pass for each.

    python -m benchmarks.labels [--shape edge base ...] [--labels 1 2 4 8 16 32 64 128] [--tokens 64 256 512]
        [--repeats 5] [--device cuda]

Follows the table of inference speed in the model cards of the v3.0 checkpoints: batch size 1, texts of
several lengths, examples a second averaged over the lengths. Contenders take turns on the same fresh
texts: this engine, the official pipeline and, if sentence-transformers is installed, cross-encoders shaped like the
cards' baselines, with random weights. All use the dtype that "auto" chooses, except the official pipeline, whose heads
run in fp32 only. A text with its labels may have 1,024 tokens. Prints a table and writes results/labels.json
and .png.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import transformers
from gliclass import GLiClassModel, ZeroShotClassificationPipeline

from benchmarks.plots import save_lines
from benchmarks.results_file import ResultTable, make_table, print_table, write_result
from benchmarks.shapes import SHAPES, make_shape
from benchmarks.speed import Draw, Score, auto_dtype, cross_encoder, race, whole_words, write_cross_encoder
from gliclass_rerank.engine.checkpoint import load_checkpoint
from gliclass_rerank.engine.scorer import GLiClassScorer, choose_device

SEED = 0
MAX_LENGTH = 1024
BASELINE_LENGTH = 512
LABEL_WORDS = 2
DEBERTA = SHAPES["large"][0]
ROBERTA = {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514, "pad_token_id": 0}
BASELINES: dict[str, dict[str, Any]] = {  # encoders of the cards' baselines
    "deberta-v3-large cross-encoder": {**DEBERTA, "vocab_size": 128100},
    "deberta-v3-base cross-encoder": {**SHAPES["base"][0], "vocab_size": 128100},
    "roberta-large cross-encoder": {
        **ROBERTA,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}


def this_engine(folder: Path, device: str) -> Score:
    """All labels in one prompt, as this engine runs it."""
    checkpoint = load_checkpoint(folder)
    scorer = GLiClassScorer(checkpoint.network, device=device)

    def score(text: str, labels: list[str]) -> list[float]:
        logits: list[float] = scorer.logits(checkpoint.prompts.build(labels, [text], MAX_LENGTH))[0].tolist()
        return logits

    return score


def official_pipeline(folder: Path, device: str) -> Score:
    """The official pipeline at batch size 1."""
    tokenizer = load_checkpoint(folder).tokenizer
    model = GLiClassModel.from_pretrained(folder).float()
    pipeline = ZeroShotClassificationPipeline(
        model, tokenizer, device=device, max_length=MAX_LENGTH, max_classes=1000, progress_bar=False
    )

    def score(text: str, labels: list[str]) -> list[float]:
        return [label["score"] for label in pipeline([text], labels, threshold=0.0, batch_size=1)[0]]

    return score


def make_draw(words: list[str], tokens: int, labels: int) -> Draw:
    """A function that draws a fresh text and different labels."""
    rng = random.Random(SEED)

    def draw() -> tuple[str, list[str]]:
        drawn = rng.sample(words, labels * LABEL_WORDS)
        pairs = zip(drawn[::LABEL_WORDS], drawn[1::LABEL_WORDS], strict=True)
        return " ".join(rng.choices(words, k=tokens)), [" ".join(pair) for pair in pairs]

    return draw


def average_rates(rows: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """Examples a second by contender and number of labels, averaged over the texts' lengths."""
    rates: dict[str, dict[int, float]] = {}
    for name, count in dict.fromkeys((row["contender"], row["labels"]) for row in rows):
        values = [1 / row["median"] for row in rows if (row["contender"], row["labels"]) == (name, count)]
        rates.setdefault(name, {})[count] = round(mean(values), 4)
    return rates


def tabulate(rates: dict[str, dict[int, float]]) -> ResultTable:
    """A row for each contender, a column for each number of labels."""
    counts = next(iter(rates.values()))
    header = ["", *(f"{count} label{'s' * (count != 1)}" for count in counts)]
    return make_table(header, [[name, *(f"{rate:.2f}" for rate in row.values())] for name, row in rates.items()])


def main() -> None:
    """Measure, print a table and write results/labels.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 512], help="tokens of the text")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best one present")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = str(choose_device(options.device))
    auto = auto_dtype(device)
    tokenizer = load_checkpoint().tokenizer
    words = whole_words(tokenizer)
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as made:
        runners: dict[str, Score] = {}
        for shape in options.shape:
            folder = make_shape(shape, Path(made))
            runners[f"this engine, {shape}, {auto}"] = this_engine(folder, device)
            runners[f"official, {shape}, float32"] = official_pipeline(folder, device)
        if find_spec("sentence_transformers"):
            for name, encoder in BASELINES.items():  # a pass for each label
                folder = write_cross_encoder(encoder, tokenizer, Path(made, name))
                runners[f"{name}, {auto}"] = cross_encoder(folder, device, BASELINE_LENGTH, auto)
        rows = []
        for count in options.labels:
            for tokens in options.tokens:
                case = {"labels": count, "tokens": tokens}
                rows += race(runners, make_draw(words, tokens, count), options.repeats, case)
    rates = average_rates(rows)
    table = tabulate(rates)
    print_table(table, "examples a second")
    record = {"repeats": options.repeats, "max_length": MAX_LENGTH, "examples a second": rates, "rows": rows}
    write_result("labels", record | {"table": table})
    save_lines("labels", rates, "examples a second", "labels")


if __name__ == "__main__":
    main()
