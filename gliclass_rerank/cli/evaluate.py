"""``gliclass-rerank eval``: measure models side by side, over collections in BEIR layout and sets of labelled texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from gliclass_rerank.cli.classify_sets import classify_sets, load_classifiers
from gliclass_rerank.cli.model_names import BUNDLED, name_models
from gliclass_rerank.cli.terminal import errors, errors_in_one_line, warnings_as_notes
from gliclass_rerank.data.beir import read_json
from gliclass_rerank.evaluation import Collection, Evaluation, read_collection
from gliclass_rerank.evaluation import evaluate as evaluate_one
from gliclass_rerank.evaluation.classification import LABELS, read_labelled_texts
from gliclass_rerank.evaluation.comparison import compare
from gliclass_rerank.evaluation.environment import describe_command, describe_environment
from gliclass_rerank.evaluation.html_report import write_html_report
from gliclass_rerank.evaluation.plot import save_plot
from gliclass_rerank.evaluation.report import (
    as_classification_record,
    as_classification_table,
    as_comparison_record,
    as_comparison_table,
    as_record,
    as_strata_record,
    as_strata_table,
    as_table,
    as_values_by_query,
)
from gliclass_rerank.evaluation.strata import stratify
from gliclass_rerank.optional import require
from gliclass_rerank.reranker import GLiClassReranker
from gliclass_rerank.validation import check_dtype, check_texts

_SUFFIXES = {"--plot": ".png", "--report": ".html"}  # what the names of files with pictures end in


def evaluate(
    collections: Annotated[
        list[Path], typer.Argument(help="Folders in BEIR layout, or of labelled texts.", metavar="COLLECTION...")
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="bundled (the default), a hub name or a folder; again for more.")
    ] = None,
    nli: Annotated[
        list[str] | None,
        typer.Option(help="Cross-encoder for inference to classify labelled texts beside; again for more."),
    ] = None,
    wording: Annotated[
        Path | None, typer.Option("--labels", help="JSON list of what to call the labels, in the order of labels.json.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Compare each model with this one too: bundled, a hub name or a folder.")
    ] = None,
    strata: Annotated[
        bool, typer.Option("--strata", help="Show gains by query length, passage length and shared words too.")
    ] = False,
    split: Annotated[str, typer.Option(help="Which qrels and run, or which texts.")] = "test",
    queries: Annotated[
        int | None, typer.Option(min=1, help="Queries or texts of each, drawn at random; all without it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn or shuffled.")] = 0,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the best there is without it.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every figure into this file.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw bars into this PNG file.")] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("--report", help="Write an HTML page with each query and each model's first passages."),
    ] = None,
) -> None:
    """Rerank each COLLECTION with each model, and measure how good the order is.

    A folder holds corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv and perhaps a run to rerank,
    runs/SPLIT.*.trec; without one, judged passages or BM25's first 50 are reranked. One with
    labels.json and SPLIT.jsonl, lines of {"text", "label"}, is classified, all labels at once. A
    terminal gets a table, anything else JSON.
    """
    with errors_in_one_line():
        labelled = [folder for folder in collections if (folder / LABELS).is_file()]
        files = {"--json": json_file, "--plot": plot_file, "--report": report_file}
        _check_before_work(files, labelled, collections, nli, wording, {"--baseline": baseline, "--strata": strata})
        check_dtype(dtype)
        named, baseline_name = _name_all(model, baseline)
        with errors.status("reading", spinner="dots"):
            read = [read_collection(f, split, queries=queries, seed=seed) for f in collections if f not in labelled]
            words = None if wording is None else check_texts("--labels", read_json(wording))
            sets = [read_labelled_texts(f, split, wording=words, texts=queries, seed=seed) for f in labelled]
            options: dict[str, Any] = {"dtype": dtype, "device": device}
            rerankers = {name: GLiClassReranker.from_pretrained(m, **options) for name, m in named.items()}
            classifiers = load_classifiers(named, name_models(nli or []), options) if sets else {}
        results, cut = _run(read, rerankers)
        with warnings_as_notes():
            classified = classify_sets(sets, classifiers)
        measured_by = [*(["ir-measures", "scipy"] if read else []), *(["scikit-learn"] if sets else [])]
        record = _settings(split, seed, dtype, rerankers, measured_by)
        tables: list[Table] = []
        if read:
            figures, tables = _report_rankings(read, results, baseline_name, strata=strata)
            record |= {"passages cut": cut} | figures
        if sets:
            record |= as_classification_record(classified)
            tables.append(as_classification_table(classified))
        text = json.dumps(record, indent=1) + "\n"
        if json_file is not None:
            json_file.write_text(text, encoding="utf-8")
        if plot_file is not None:
            save_plot(results, plot_file)
        if report_file is not None:
            write_html_report(read, results, report_file, title=record["command"])
    console = Console()
    if console.is_terminal:
        for table in tables:
            console.print(table)
    else:
        sys.stdout.write(text)
    for name, passages in cut.items():
        if passages:
            note = f"note: {passages} passages were cut to {rerankers[name].max_length} tokens for {name}"
            errors.print(Text(note), style="yellow")


def _check_before_work(
    files: Mapping[str, Path | None],
    labelled: Sequence[Path],
    folders: Sequence[Path],
    nli: Sequence[str] | None,
    wording: Path | None,
    comparisons: Mapping[str, object],
) -> None:
    """Refuse before hours of scoring what would fail after them."""
    pictures = {option: files[option] for option in _SUFFIXES}
    for option, value in {**pictures, **comparisons}.items():
        if value and len(labelled) == len(folders):
            raise ValueError(f"{option} needs a collection in BEIR layout, and there is none.")
    if nli and not labelled:
        raise ValueError(f"--nli classifies labelled texts, and no folder has a {LABELS}.")
    if wording is not None and len(labelled) != 1:
        raise ValueError(f"--labels are those of one set of labelled texts, but {len(labelled)} folders are such.")
    ranking = ["ir_measures", "scipy"] if len(labelled) < len(folders) else []
    for module in [*ranking, *(["sklearn"] if labelled else []), *(["matplotlib"] if any(pictures.values()) else [])]:
        require(module, extra="eval")
    for option, path in files.items():
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ValueError(f"{option} is {str(path)!r}, expected a file in a folder that exists.")
    for option, path in pictures.items():
        if path is not None and path.suffix.lower() != _SUFFIXES[option]:
            raise ValueError(f"{option} is {str(path)!r}, expected a name that ends in {_SUFFIXES[option]}.")


def _name_all(models: Sequence[str] | None, baseline: str | None) -> tuple[dict[str, str | None], str | None]:
    """The models by name, the baseline among them, and the baseline's name."""
    chosen = list(models or [BUNDLED])
    if baseline is None:
        return name_models(chosen), None
    if baseline not in chosen:
        chosen.append(baseline)
    if len(chosen) == 1:
        raise ValueError(f"--baseline is {baseline!r}, the only model. Name one to compare it with by --model.")
    named = name_models(chosen)
    return named, list(named)[chosen.index(baseline)]


def _report_rankings(
    collections: Sequence[Collection],
    results: Mapping[str, Sequence[Evaluation]],
    baseline: str | None,
    *,
    strata: bool,
) -> tuple[dict[str, Any], list[Table]]:
    """All figures of the collections, for JSON and as tables for a terminal."""
    record, tables = as_record(results), [as_table(results)]
    if baseline is not None:
        comparisons = {name: compare(rows, results[baseline]) for name, rows in results.items() if name != baseline}
        record["baseline"] = as_comparison_record(comparisons, baseline)
        tables.append(as_comparison_table(comparisons, baseline))
    if strata:
        stratified = stratify(collections, results)
        record["strata"] = as_strata_record(stratified)
        tables.append(as_strata_table(stratified))
    return record | {"by query": as_values_by_query(results)}, tables


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


def _settings(
    split: str, seed: int, dtype: str, rerankers: Mapping[str, GLiClassReranker], measured_by: Sequence[str]
) -> dict[str, Any]:
    return {
        "command": describe_command("gliclass-rerank", sys.argv[1:]),
        **describe_environment(*measured_by),
        "split": split,
        "seed": seed,
        "dtype": dtype,
        "device": next(iter(rerankers.values())).device,
    }
