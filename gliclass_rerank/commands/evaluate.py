"""``gliclass-rerank eval``: measure models side by side over collections in BEIR layout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.text import Text

from gliclass_rerank.adapter import require_framework
from gliclass_rerank.commands.terminal import errors, errors_in_one_line, printable
from gliclass_rerank.evaluation import Collection, Evaluation, read_collection
from gliclass_rerank.evaluation import evaluate as evaluate_one
from gliclass_rerank.evaluation.environment import describe_command, describe_environment
from gliclass_rerank.evaluation.plot import save_plot
from gliclass_rerank.evaluation.report import as_record, as_table
from gliclass_rerank.reranker import GLiClassReranker
from gliclass_rerank.validation import Dtype, check_dtype


def evaluate(
    collections: Annotated[list[Path], typer.Argument(help="Folders in BEIR layout.", metavar="COLLECTION...")],
    model: Annotated[
        list[str] | None, typer.Option(help="Hub name or folder; again for more. The embedded model without it.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which qrels, and which run.")] = "test",
    queries: Annotated[
        int | None, typer.Option(min=1, help="Queries of each, drawn at random; all without it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn or shuffled.")] = 0,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the best there is without it.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every figure into this file.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw bars into this PNG file.")] = None,
) -> None:
    """Rerank each COLLECTION with each model, and measure how good the order is.

    A folder holds corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv and perhaps a run to rerank,
    runs/SPLIT.*.trec; without one, judged passages or BM25's first 50 are reranked. A terminal gets
    a table, anything else JSON.
    """
    with errors_in_one_line():
        _check_before_work(json_file, plot_file)
        with errors.status("reading", spinner="dots"):
            read = [read_collection(folder, split, queries=queries, seed=seed) for folder in collections]
            rerankers = _load(model or [None], dtype, device)
        results, cut = _run(read, rerankers)
        record = _settings(split, seed, dtype, rerankers) | {"passages cut": cut} | as_record(results)
        text = json.dumps(record, indent=1) + "\n"
        if json_file is not None:
            json_file.write_text(text, encoding="utf-8")
        if plot_file is not None:
            save_plot(results, plot_file)
    console = Console()
    if console.is_terminal:
        console.print(as_table(results))
    else:
        sys.stdout.write(text)
    for name, passages in cut.items():
        if passages:
            note = f"note: {passages} passages were cut to {rerankers[name].max_length} tokens for {name}"
            errors.print(Text(note), style="yellow")


def _check_before_work(json_file: Path | None, plot_file: Path | None) -> None:
    """Refuse before hours of scoring what would fail after them."""
    for module in ("ir_measures", "scipy", *(["matplotlib"] if plot_file else [])):
        require_framework(module, extra="eval")
    for option, path in (("--json", json_file), ("--plot", plot_file)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ValueError(f"{option} is {str(path)!r}, expected a file in a folder that exists.")
    if plot_file is not None and plot_file.suffix.lower() != ".png":
        raise ValueError(f"--plot is {str(plot_file)!r}, expected a name that ends in .png.")


def _load(models: Sequence[str | None], dtype: str, device: str | None) -> dict[str, GLiClassReranker]:
    """The models by the names they go by here: a folder's last part, numbered where two are alike."""
    check_dtype(dtype)
    rerankers: dict[str, GLiClassReranker] = {}
    for model in models:
        name = plain = _name(model)
        numbers = count(2)
        while name in rerankers:
            name = f"{plain} ({next(numbers)})"
        rerankers[name] = GLiClassReranker.from_pretrained(model, dtype=cast("Dtype", dtype), device=device)
    return rerankers


def _name(model: str | None) -> str:
    if model is None:
        return "embedded"
    folder = Path(model).expanduser()
    return printable(folder.resolve().name if folder.is_dir() else model, "utf-8")


def _run(
    collections: Sequence[Collection], rerankers: Mapping[str, GLiClassReranker]
) -> tuple[dict[str, list[Evaluation]], dict[str, int]]:
    """Evaluations by model, and how many passages each model had to cut."""
    results: dict[str, list[Evaluation]] = {name: [] for name in rerankers}
    cut = dict.fromkeys(rerankers, 0)
    with Progress(console=errors, disable=not errors.is_terminal) as progress:
        for collection in collections:
            total = sum(bool(candidates) for candidates in collection.candidates.values())
            for name, reranker in rerankers.items():
                task = progress.add_task(escape(f"{collection.name}, {name}"), total=total)
                score = _Score(reranker, partial(progress.advance, task))
                results[name].append(evaluate_one(collection, score))
                cut[name] += score.cut
    return results, cut


class _Score:
    """A reranker's scores, told to a progress bar; and how many passages were cut."""

    def __init__(self, reranker: GLiClassReranker, advance: Callable[[], None]) -> None:
        self._reranker = reranker
        self._advance = advance
        self.cut = 0

    def __call__(self, query: str, passages: list[str]) -> list[float]:
        hits = sorted(self._reranker.rank(query, passages), key=lambda hit: hit.index)
        self.cut += sum(hit.truncated for hit in hits)
        self._advance()
        return [hit.score for hit in hits]


def _settings(split: str, seed: int, dtype: str, rerankers: Mapping[str, GLiClassReranker]) -> dict[str, Any]:
    return {
        "command": describe_command("gliclass-rerank", sys.argv[1:]),
        **describe_environment("ir-measures", "scipy"),
        "split": split,
        "seed": seed,
        "dtype": dtype,
        "device": next(iter(rerankers.values())).device,
    }
