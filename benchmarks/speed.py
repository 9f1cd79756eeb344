"""Time scoring passages against a query: this engine, the official pipeline and a cross-encoder.

    python -m benchmarks.speed [--shape bundled edge modern-base modern-large base large] [--passages 10 100 1000]
        [--tokens 60 180 450] [--repeats 5] [--dtype float32 bfloat16] [--device cuda] [--memory] [--result speed]

Without options: the bundled model, 100 passages, 180 tokens on average.

- Contenders take turns in one process, in a new order each time, on the same fresh passages: random words
  of the tokenizer's vocabulary, from half to one and a half times the mean length.
- The cross-encoder (if sentence-transformers is installed) has the same encoder with random weights. Shapes of
  published checkpoints have random weights for every contender.
- "matrix products alone" is the time of the encoder's matrix products for all layers and tokens, without padding
  and without attention. This engine skips those of the last layer that no head reads.
- Contenders run with their defaults, except that all have the same limit of tokens, and that the official pipeline
  also runs at its best batch size.
- With --memory, each contender is loaded once more in a process of its own to measure its peak memory.

Prints a table and writes results/speed.json and .png, or the name that --result gives.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
import transformers
from gliclass import GLiClassModel, ZeroShotClassificationPipeline
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.memory import peak_megabytes
from benchmarks.plots import save_bars
from benchmarks.results_file import ResultTable, make_table, print_table, write_result
from benchmarks.shapes import SHAPES, make_shape
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.checkpoint import load_checkpoint
from gliclass_rerank.engine.scorer import TOKEN_BUDGETS, choose_device, choose_dtype
from gliclass_rerank.modeling.linear import prepack_linears
from gliclass_rerank.validation import Dtype

SEED = 0
QUERY_WORDS = 10
OFFICIAL_BATCH_SIZE = 8  # the pipeline's default
OFFICIAL_BATCH_SIZES = (1, 2, 8, 32, 128)
WARM_UP_PASSAGES = 16  # also used on a CPU to choose the best batch size
CONTROL_TOKENS = 4  # per sequence, besides the words of query and passage
CHUNK = TOKEN_BUDGETS["cpu"]  # tokens per matrix product
PRODUCTS = "matrix products alone"

Score = Callable[[str, list[str]], Sequence[float]]  # query and passages to one score for each passage
Draw = Callable[[], tuple[str, list[str]]]  # a fresh query and passages


@dataclass(frozen=True)
class Setting:
    """Settings that the contenders of one shape share."""

    folder: Path
    cross_encoder: Path  # a folder; with the same encoder
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    device: str


def this_engine(setting: Setting, dtype: Dtype) -> Score:
    """The reranker of this project."""
    return GLiClassReranker.from_pretrained(setting.folder, device=setting.device, dtype=dtype).score


def official_pipeline(setting: Setting) -> Callable[..., Sequence[float]]:
    """The official pipeline, with the batch size as an argument."""
    # Its heads run in fp32 only, whatever the weights are stored as.
    model = GLiClassModel.from_pretrained(setting.folder).float()
    pipeline = ZeroShotClassificationPipeline(
        model, setting.tokenizer, device=setting.device, max_length=setting.max_length, progress_bar=False
    )

    def score(query: str, passages: list[str], *, batch_size: int) -> Sequence[float]:
        results = pipeline(passages, [query], threshold=0.0, batch_size=batch_size)
        return [result[0]["score"] for result in results]

    return score


def write_cross_encoder(encoder: dict[str, Any], tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Write a cross-encoder: an encoder with random weights, one label."""
    config = AutoConfig.for_model(**encoder, num_labels=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder)
    return folder


def cross_encoder(folder: Path, device: str, max_length: int, dtype: Dtype) -> Score:
    """The cross-encoder of sentence-transformers."""
    # Imported by name: it is not a dependency, and type checks must pass without it.
    model = import_module("sentence_transformers").CrossEncoder(
        str(folder), device=device, max_length=max_length, model_kwargs={"dtype": getattr(torch, dtype)}
    )

    def score(query: str, passages: list[str]) -> Sequence[float]:
        scores: list[float] = model.predict([(query, p) for p in passages], show_progress_bar=False).tolist()
        return scores

    return score


def matrix_products(encoder: torch.nn.Module, device: str, dtype: Dtype, tokens: int) -> Score:
    """Only the matrix products of an encoder's layers over ``tokens`` tokens, as fast as we can run them."""
    linears = [m for name, m in encoder.named_modules() if isinstance(m, torch.nn.Linear) and "pooler" not in name]
    chosen = getattr(torch, dtype)
    products = torch.nn.ModuleList()
    for linear in linears:
        product = torch.nn.Linear(linear.in_features, linear.out_features, bias=False)
        product.weight.data = linear.weight.detach().to(device, chosen, copy=True)
        products.append(product)
    inputs = [torch.randn(CHUNK, linear.in_features).to(device, chosen) for linear in linears]
    if device == "cpu":
        prepack_linears(products)
    chunks = [min(CHUNK, tokens - start) for start in range(0, tokens, CHUNK)]

    @torch.inference_mode()
    def score(query: str, passages: list[str]) -> Sequence[float]:
        for rows in chunks:
            for product, x in zip(products, inputs, strict=True):
                output = product(x[:rows])
        last: list[float] = output[0, :1].tolist()  # waits for the device
        return last

    return score


def auto_dtype(device: str) -> Dtype:
    """The dtype that "auto" chooses on a device."""
    return cast("Dtype", str(choose_dtype("auto", choose_device(device))).removeprefix("torch."))


def contenders(setting: Setting, dtypes: Sequence[Dtype]) -> dict[str, Callable[[], Score]]:
    """Functions that load the contenders of one shape, by name; the official pipeline at its defaults."""
    loaders: dict[str, Callable[[], Score]] = {}
    auto = auto_dtype(setting.device)
    for dtype in dict.fromkeys([*dtypes, auto]):
        loaders[f"this engine, {dtype}{' (auto)' if dtype == auto else ''}"] = partial(this_engine, setting, dtype)
    loaders["official"] = lambda: partial(official_pipeline(setting), batch_size=OFFICIAL_BATCH_SIZE)
    if find_spec("sentence_transformers"):
        for dtype in dtypes:
            loaders[f"CrossEncoder, {dtype}"] = partial(
                cross_encoder, setting.cross_encoder, setting.device, setting.max_length, dtype
            )
    return loaders


def load_all(setting: Setting, dtypes: Sequence[Dtype], draw: Draw, tokens: int) -> dict[str, Score]:
    """Load all contenders, the official pipeline also at its best batch size, and the matrix products alone."""
    scores = {name: load() for name, load in contenders(setting, dtypes).items() if name != "official"}
    encoder = load_checkpoint(setting.folder).network.encoder_model
    for dtype in dict.fromkeys([*dtypes, auto_dtype(setting.device)]):
        scores[f"{PRODUCTS}, {dtype}"] = matrix_products(encoder, setting.device, dtype, tokens)
    official = official_pipeline(setting)
    query, passages = draw()
    best = best_batch_size(
        official, query, passages if setting.device.startswith("cuda") else passages[:WARM_UP_PASSAGES]
    )
    for size in dict.fromkeys([OFFICIAL_BATCH_SIZE, best]):
        marks = [word for word, marked in (("default", OFFICIAL_BATCH_SIZE), ("best", best)) if size == marked]
        scores[f"official, batch {size} ({', '.join(marks)})"] = partial(official, batch_size=size)
    return scores


def peak_memory(setting: Setting, dtypes: Sequence[Dtype], name: str, passages: int, tokens: int) -> int:
    """Peak MB of this process after it loads one contender and scores once."""
    score = contenders(setting, dtypes)[name]()
    score(*make_draw(setting.tokenizer, passages, tokens)())
    if setting.device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated() >> 20)
    return peak_megabytes()


def measure_memory(setting: Setting, passages: int, tokens: int, options: argparse.Namespace) -> dict[str, int]:
    """Peak MB of each contender, in a process of its own."""
    megabytes = {}
    for name in progress(contenders(setting, options.dtype), "memory"):
        contender = ["--one", name, str(setting.folder), str(setting.cross_encoder), str(setting.max_length)]
        case = ["--passages", str(passages), "--tokens", str(tokens), "--dtype", *options.dtype]
        command = [sys.executable, "-m", "benchmarks.speed", *contender, *case, "--device", setting.device]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        megabytes[name] = int(done.stdout.split()[-1])
    return megabytes


def best_batch_size(official: Callable[..., Sequence[float]], query: str, passages: list[str]) -> int:
    """The batch size at which the official pipeline is fastest, after a call that warms it up."""
    official(query, passages, batch_size=OFFICIAL_BATCH_SIZE)
    seconds = {size: clock(partial(official, batch_size=size), query, passages) for size in OFFICIAL_BATCH_SIZES}
    return min(seconds, key=lambda size: seconds[size])


def clock(score: Score, query: str, passages: list[str]) -> float:
    """Seconds of one call. All contenders return numbers on the CPU, so the device has finished."""
    start = perf_counter()
    score(query, passages)
    return perf_counter() - start


def make_draw(tokenizer: PreTrainedTokenizerBase, passages: int, tokens: int, query_words: int = QUERY_WORDS) -> Draw:
    """A function that draws a fresh query and passages; their total length in tokens never changes."""
    rng = random.Random(SEED)
    words = whole_words(tokenizer)
    lengths = np.linspace(tokens / 2, tokens * 3 / 2, passages).round().astype(int).tolist()

    def draw() -> tuple[str, list[str]]:
        rng.shuffle(lengths)
        return " ".join(rng.choices(words, k=query_words)), [" ".join(rng.choices(words, k=n)) for n in lengths]

    return draw


def whole_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Words of the vocabulary that are a single token inside a text."""
    decoded = (str(tokenizer.decode([i])).strip() for i in sorted(tokenizer.get_vocab().values()))
    words = [word for word in dict.fromkeys(decoded) if word.isascii() and word.isalpha()]
    ids = tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    return [word for word, word_ids in zip(words, ids, strict=True) if len(word_ids) == 1]


def race(runners: dict[str, Score], draw: Draw, repeats: int, case: dict[str, Any]) -> list[dict[str, Any]]:
    """Time all contenders in turn on the same texts, after warming each up."""
    rng = random.Random(SEED)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    query, passages = draw()
    for score in runners.values():
        score(query, passages[:WARM_UP_PASSAGES])
    for _ in progress(range(repeats), " ".join(map(str, case.values()))):
        texts = draw()
        for name in rng.sample(list(runners), len(runners)):
            seconds[name].append(clock(runners[name], *texts))
    return [
        {
            **case,
            "contender": name,
            "median": round(float(np.median(times)), 4),
            "p95": round(float(np.percentile(times, 95)), 4),
            "seconds": [round(time, 4) for time in times],
        }
        for name, times in seconds.items()
    ]


def make_setting(shape: str, made: Path, device: str | None) -> Setting:
    """Write the checkpoints of a shape for its contenders."""
    folder = make_shape(shape, made)
    checkpoint = load_checkpoint(folder)
    peer = write_cross_encoder(checkpoint.config.encoder_config, checkpoint.tokenizer, made / f"{shape}-cross-encoder")
    return Setting(folder, peer, checkpoint.tokenizer, checkpoint.max_length, str(choose_device(device)))


def measure(
    shape: str, passages: int, tokens: int, setting: Setting, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of one shape, number of passages and mean length."""
    draw = make_draw(setting.tokenizer, passages, tokens)
    # Words of the vocabulary are one token each, so every draw has as many.
    total = sum(len(text.split()) + QUERY_WORDS + CONTROL_TOKENS for text in draw()[1])
    runners = load_all(setting, options.dtype, draw, total)
    rows = race(runners, draw, options.repeats, {"shape": shape, "passages": passages, "tokens": tokens})
    memory = measure_memory(setting, passages, tokens, options) if options.memory else {}
    for row in rows:
        is_default = row["contender"].startswith("official") and "default" in row["contender"]
        row["peak memory, MB"] = memory.get("official" if is_default else row["contender"])
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table: a line for each contender in each case."""
    cells = [
        [
            f"{row['shape']}, {row['passages']} x {row['tokens']}",
            row["contender"],
            f"{row['median']:.3f}",
            f"{row['p95']:.3f}",
            f"{row['passages'] / row['median']:.0f}",
            row["peak memory, MB"] or "",
        ]
        for row in rows
    ]
    print_table(make_table(["shape", "contender", "seconds (median)", "p95", "passages/s", "peak MB"], cells))


def tabulate(rows: Sequence[dict[str, Any]]) -> dict[str, ResultTable]:
    """The tables of the pages: the bundled model's contenders, and all shapes by dtype and by memory."""
    tables = {}
    bundled = sorted((row for row in rows if row["shape"] == "bundled"), key=lambda row: row["median"])
    if bundled:
        cells = [
            [row["contender"], f"{row['median']:.2f}", f"{row['passages'] / row['median']:.0f}"] for row in bundled
        ]
        tables["speed"] = make_table(["", "seconds", "passages a second"], cells)
    seconds, memory = by_shape(rows, "median"), by_shape(rows, "peak memory, MB")
    comparisons: list[tuple[str, Dtype, list[str]]] = [
        ("shapes", "bfloat16", ["CrossEncoder, float32", "CrossEncoder, bfloat16"]),
        ("shapes_in_fp32", "float32", ["CrossEncoder, float32"]),
    ]
    for name, dtype, peers in comparisons:
        if all(f"{PRODUCTS}, {dtype}" in times for times in seconds.values()):
            tables[name] = compare_shapes(seconds, dtype, peers)
    if memory:
        names = [name.split(" (")[0] for name in next(iter(memory.values()))]
        tables["memory"] = make_table(["", *names], [[shape, *values.values()] for shape, values in memory.items()])
    return tables


def by_shape(rows: Sequence[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """The values of one key by shape and contender, where rows have any."""
    values: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row[key] is not None:
            shape = row["shape"] if row["passages"] == 100 else f"{row['shape']}, {row['passages']} passages"
            values.setdefault(shape, {})[row["contender"]] = row[key]
    return values


def compare_shapes(seconds: dict[str, dict[str, Any]], dtype: Dtype, peers: Sequence[str]) -> ResultTable:
    """This engine in one dtype beside the official pipeline and peers, with how many times as long they take."""
    peers = [name for name in peers if all(name in times for times in seconds.values())]
    rows = []
    for shape, times in seconds.items():
        engine = next(time for name, time in times.items() if name.startswith(f"this engine, {dtype}"))
        official = {
            mark: next(time for name, time in times.items() if name.startswith("official") and mark in name)
            for mark in ("default", "best")
        }
        slower = [*official.values(), *(times[name] for name in peers)]
        share = f"{times[f'{PRODUCTS}, {dtype}'] / engine:.0%}"
        rows.append([shape, f"{engine:.2f}", share, *(f"{time:.2f} ({time / engine:.1f}×)" for time in slower)])
    pipeline = ("official, default", "official, best batch size")
    return make_table(["", f"this engine, {dtype}", "all matrix products", *pipeline, *peers], rows)


def main() -> None:
    """Measure, print a table and write results/speed.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=("bundled", *SHAPES), default=["bundled"])
    parser.add_argument("--passages", type=int, nargs="+", default=[100])
    parser.add_argument("--tokens", type=int, nargs="+", default=[180], help="tokens of a passage, on average")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best one present")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--memory", action="store_true", help="measure each contender's peak memory too")
    parser.add_argument("--result", default="speed", help="name of the files in results/")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)  # for the process whose memory is measured
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if options.one:
        name, folder, peer, max_length = options.one
        tokenizer = AutoTokenizer.from_pretrained(peer)
        setting = Setting(Path(folder), Path(peer), tokenizer, int(max_length), options.device)
        print(peak_memory(setting, options.dtype, name, options.passages[0], options.tokens[0]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as made:
        for shape in options.shape:
            setting = make_setting(shape, Path(made), options.device)
            for passages, tokens in product(options.passages, options.tokens):
                rows += measure(shape, passages, tokens, setting, options)
    show(rows)
    peers = {name: version(name) for name in ("sentence-transformers",) if find_spec(name.replace("-", "_"))}
    settings = {"repeats": options.repeats, "peers": peers, "official batch sizes": OFFICIAL_BATCH_SIZES}
    suffix = options.result.removeprefix("speed")
    tables = {f"{name}{suffix}": table for name, table in tabulate(rows).items()}
    write_result(options.result, {**settings, "contenders": rows, "tables": tables})
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        case = f"{row['shape']}\n{row['passages']} × {row['tokens']}"
        name = row["contender"].split(" (")[0].replace(f", batch {OFFICIAL_BATCH_SIZE}", ", default")
        groups.setdefault(case, {})[name] = row["passages"] / row["median"]
    save_bars(options.result, groups, "passages a second")


if __name__ == "__main__":
    main()
