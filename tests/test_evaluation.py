"""Measures, significance, reports and the command ``eval``."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.cli.app import app
from gliclass_rerank.engine.checkpoint import BUNDLED
from gliclass_rerank.evaluation import MEASURES, Collection, Estimate, evaluate, read_collection
from gliclass_rerank.evaluation.comparison import compare
from gliclass_rerank.evaluation.gains import measure_gains
from gliclass_rerank.evaluation.report import as_record, as_table
from gliclass_rerank.evaluation.strata import stratify
from tests.small_collections import QUERIES, RUN, keep, made_of, reverse, write

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a run for two of its three queries."""
    return write(tmp_path / "small", run=RUN)


# --- measuring ---------------------------------------------------------------------------------


def test_the_measures_are_those_worked_out_by_hand() -> None:
    collection = made_of({"x": list("abcd"), "y": list("ef")}, {"x": {"b": 2, "d": 1}, "y": {"f": 1, "elsewhere": 1}})
    before = evaluate(collection, keep).first_stage
    ideal_x, ideal_y = 2 + 1 / math.log2(3), 1 + 1 / math.log2(3)
    expected = {
        "nDCG@10": ((2 / math.log2(3) + 1 / math.log2(5)) / ideal_x, 1 / math.log2(3) / ideal_y),
        "MRR@10": (1 / 2, 1 / 2),
        "MAP": ((1 / 2 + 2 / 4) / 2, 1 / 2 / 2),
        "R@10": (1.0, 1 / 2),
    }
    assert tuple(before) == MEASURES
    for name, values in expected.items():
        assert before[name].values == pytest.approx(values), name
        assert before[name].mean == pytest.approx(sum(values) / 2), name


def test_only_map_looks_beyond_the_tenth() -> None:
    summaries = evaluate(made_of({"x": list("abcdefghijk")}, {"x": {"k": 1}}), keep).first_stage
    assert {name: summaries[name].mean for name in MEASURES} == pytest.approx(
        {"nDCG@10": 0, "MRR@10": 0, "MAP": 1 / 11, "R@10": 0}
    )


def test_passages_are_scored_as_words_and_sorted_by_score(folder: Path) -> None:
    seen: dict[str, list[str]] = {}

    def score(query: str, passages: list[str]) -> list[float]:
        seen[query] = passages
        return reverse(query, passages)

    collection = read_collection(folder)
    evaluation = evaluate(collection, score)
    assert seen[QUERIES["q2"]] == [collection.passages[i] for i in RUN["q2"]]
    assert evaluation.queries == ("q1", "q2")
    assert evaluation.first_stage["MRR@10"].mean == pytest.approx(1 / 3)
    assert evaluation.reranked["MRR@10"].mean == 1


def test_a_query_without_candidates_counts_as_nothing_found_and_is_not_scored() -> None:
    scored_queries = []
    collection = made_of({"x": [], "y": ["a"]}, {"x": {"b": 1}, "y": {"a": 1}})
    evaluation = evaluate(collection, lambda query, passages: scored_queries.append(query) or [1.0])
    assert scored_queries == ["y"] and evaluation.reranked["nDCG@10"].values == (0, 1)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equal_scores_keep_the_first_stage_s_order(data: st.DataObject) -> None:
    ids = data.draw(st.permutations("abcdefgh"))
    scores = dict(
        zip(ids, data.draw(st.lists(st.sampled_from([0.1, 0.1 + 1e-12, 0.9]), min_size=8, max_size=8)), strict=True)
    )
    relevant = data.draw(st.sampled_from(ids))
    evaluation = evaluate(made_of({"x": ids}, {"x": {relevant: 1}}), lambda _, passages: [scores[p] for p in passages])
    place = ids.index(relevant)
    passages_before = sum(
        scores[p] > scores[relevant] or (scores[p] == scores[relevant] and ids.index(p) < place) for p in ids
    )
    assert evaluation.first_stage["MRR@10"].mean == pytest.approx(1 / (place + 1))
    assert evaluation.reranked["MRR@10"].mean == pytest.approx(1 / (passages_before + 1))


@pytest.mark.parametrize(
    ("scores", "message"),
    [([0.5], "1 scores for the 2 candidates of query 'x'"), ([0.5, math.nan], "nan for query 'x' and passage 'b'")],
)
def test_scores_that_are_none_are_refused(scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(made_of({"x": ["a", "b"]}, {"x": {"a": 1}}), lambda query, passages: scores)


def test_a_collection_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="'made', which has no queries"):
        evaluate(made_of({}, {}), keep)


# --- significance ------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_the_interval_holds_the_mean_and_lies_among_the_values(values: list[float]) -> None:
    estimate = Estimate.of(values)
    assert estimate.interval is not None
    low, high = estimate.interval
    assert min(values) - 1e-9 <= low <= estimate.mean + 1e-9 and estimate.mean - 1e-9 <= high <= max(values) + 1e-9


def test_the_interval_is_that_of_the_normal_approximation_and_halves_with_four_times_the_queries() -> None:
    few, many = [0.0, 0.25, 0.5, 0.75, 1.0] * 20, [0.0, 0.25, 0.5, 0.75, 1.0] * 80
    widths = []
    for values in (few, many):
        low, high = Estimate.of(values).interval or (0, 0)
        widths.append(high - low)
        assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.125 / len(values)), rel=0.05)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.05)


def test_p_is_small_for_a_clear_improvement_and_one_for_none() -> None:
    orders = {f"q{i}": ["a", "b", "c"] for i in range(12)}
    better = evaluate(made_of(orders, {query: {"c": 1} for query in orders}), reverse)
    assert better.reranked["nDCG@10"].p_value == pytest.approx(2 / 2**12)  # two of all patterns of signs
    assert better.first_stage["nDCG@10"].p_value is None
    same = evaluate(made_of(orders, {query: {"c": 1} for query in orders}), keep)
    assert same.reranked["nDCG@10"].p_value == 1
    worse = evaluate(made_of(orders, {query: {"a": 1} for query in orders}), reverse)
    assert worse.reranked["nDCG@10"].p_value == pytest.approx(2 / 2**12)


def test_p_is_large_where_gains_and_losses_balance() -> None:
    gains = [0.1, -0.1, 0.2, -0.2, 0.05, -0.04] * 5
    assert (Estimate.of([0.5 + gain for gain in gains], [0.5] * len(gains)).p_value or 0) > 0.5


def test_one_query_says_nothing_about_others() -> None:
    estimate = Estimate.of([0.5], [0.25])
    assert estimate.interval is None and estimate.p_value is None
    with pytest.raises(ValueError, match="values is empty"):
        Estimate.of([])
    with pytest.raises(ValueError, match="baseline has 1 values"):
        Estimate.of([0.5, 0.5], [0.5])


# --- reports -----------------------------------------------------------------------------------


def test_the_table_marks_what_is_significant_and_never_reads_names_as_markup() -> None:
    orders = {f"q{i}": ["a", "b", "c"] for i in range(12)}
    collection = made_of(orders, {query: {"c": 1} for query in orders})
    results = {"[red]better[/]": [evaluate(collection, reverse)], "same": [evaluate(collection, keep)]}
    console = Console(file=io.StringIO(), width=120)
    console.print(as_table(results))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]better[/]" in shown and "1.000 (+0.500*) [1.000, 1.000]" in shown and "0.500 [0.500, 0.500]" in shown
    assert "95% confidence interval" in shown and "p < 0.05" in shown


def test_the_mean_counts_collections_alike() -> None:
    one = made_of({"x": ["a", "b"]}, {"x": {"b": 1}})
    two = made_of({"x": ["a", "b"], "y": ["a", "b"]}, {"x": {"a": 1}, "y": {"a": 1}})
    record = as_record({"reverse": [evaluate(one, reverse), evaluate(two, reverse)]})
    assert record["mean"]["first stage"]["MRR@10"] == record["mean"]["models"]["reverse"]["MRR@10"] == 0.75
    assert [row["queries"] for row in record["collections"]] == [1, 2]
    assert record["collections"][0]["models"]["reverse"]["MRR@10"] == {"mean": 1, "low": None, "high": None, "p": None}


def test_the_table_ends_with_the_mean_and_the_worst_gain() -> None:
    better = evaluate(made_of({"x": ["a", "b"]}, {"x": {"b": 1}}), reverse)
    worse = evaluate(made_of({"x": ["a", "b"]}, {"x": {"a": 1}}), reverse)
    results = {"reverse": [better, replace(worse, collection="other")]}
    loss = 1 / math.log2(3) - 1
    assert measure_gains(results["reverse"]).by_collection == pytest.approx((-loss, loss))
    console = Console(file=io.StringIO(), width=120)
    console.print(as_table(results))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    rows = {line.split("│")[1].strip(): line for line in shown.splitlines() if "│" in line}
    assert "(+0.000)" in rows["mean"] and "-0.369 (other)" in rows["worst gain"]
    record = as_record(results)
    assert record["gain"]["reverse"] == {"mean": 0, "worst": -0.3691, "worst collection": "other"}
    assert [row["gain"]["reverse"] for row in record["collections"]] == [0.3691, -0.3691]


# --- comparing two models ----------------------------------------------------------------------


def test_a_comparison_counts_each_query_alike_over_all_collections() -> None:
    one = made_of({"x": ["a", "b"]}, {"x": {"b": 1}})
    orders = {f"q{i}": ["a", "b"] for i in range(9)}
    many = made_of(orders, {query: {"a": 1} for query in orders})
    reversed_rows, first_rows = ([evaluate(c, score) for c in (one, many)] for score in (reverse, keep))
    first, second, overall = compare(reversed_rows, first_rows)
    loss = 1 / math.log2(3) - 1
    assert (first.difference, first.p_value) == (pytest.approx(-loss), None)
    assert (second.difference, second.p_value) == (pytest.approx(loss), pytest.approx(2 / 2**9))
    assert (overall.queries, overall.difference) == (10, pytest.approx(0.8 * loss))
    # One sign differs: of all 2**10 patterns of signs, 11 have at most one other sign, to either side.
    assert overall.p_value == pytest.approx(22 / 2**10)


def test_results_of_other_queries_are_not_compared() -> None:
    one = evaluate(made_of({"x": ["a", "b"]}, {"x": {"b": 1}}), keep)
    other = evaluate(made_of({"y": ["a", "b"]}, {"y": {"b": 1}}), keep)
    with pytest.raises(ValueError, match="different queries"):
        compare([one], [other])


# --- strata ------------------------------------------------------------------------------------


def test_queries_are_divided_by_length_by_passage_length_and_by_shared_words() -> None:
    passages = {"short": "Plants make sugar.", "long": "plants " * 50, "none": "Nothing in common."}
    queries = {"x": "How do plants make sugar?", "y": "How do plants make the sugar that is in them?"}
    qrels = {"x": {"short": 1, "none": 0}, "y": {"long": 1}}
    collection = Collection("made", "", queries, passages, {q: ["none", "long", "short"] for q in queries}, qrels)
    strata = stratify([collection], {"reverse": [evaluate(collection, reverse)]})
    assert [(s.respect, s.values, s.queries) for s in strata] == [
        ("query words", "up to 5", 1),
        ("query words", "above 5, up to 10", 1),
        ("relevant passage words", "up to 40", 1),
        ("relevant passage words", "above 40, up to 80", 1),
        ("% shared words", "up to 25", 1),  # of plants, make, sugar, that, them: plants
        ("% shared words", "above 75", 1),
    ]
    assert [s.first_stage for s in strata[:2]] == pytest.approx([0.5, 1 / math.log2(3)])
    assert [s.gains["reverse"] for s in strata[:2]] == pytest.approx([0.5, 0])


# --- the command -------------------------------------------------------------------------------


def test_eval_measures_models_side_by_side(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundled: GLiClassReranker
) -> None:
    other = write(tmp_path / "other")
    arguments = ["eval", str(folder), str(other), "--dtype", "float32", "--device", "cpu", "--model", str(BUNDLED)]
    arguments += ["--model", str(BUNDLED), "--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    monkeypatch.setattr(sys, "argv", ["gliclass-rerank", *arguments])
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (tmp_path / "out.json").read_text() == result.stdout
    record = json.loads(result.stdout)
    small, full = record["collections"]
    assert (small["collection"], small["candidates"], small["queries"]) == ("small", "test.x.trec", 2)
    assert (full["collection"], full["candidates"], full["queries"]) == ("other", "BM25, first 50", 3)
    expected = evaluate(read_collection(folder), bundled.score)
    for name in ("bundled", "bundled (2)"):
        assert small["models"][name]["nDCG@10"]["mean"] == round(expected.reranked["nDCG@10"].mean, 4)
    assert small["first stage"]["MRR@10"] == {"mean": 0.3333, "low": 0.3333, "high": 0.3333}
    assert set(small["models"]["bundled"]["MAP"]) == {"mean", "low", "high", "p"}
    assert record["device"] == "cpu" and record["dtype"] == "float32" and record["passages cut"]["bundled"] == 0
    assert {"date", "hardware", "versions"} <= set(record)
    # The folders of this machine are nobody's business.
    assert "eval small other" in record["command"] and str(tmp_path) not in result.stdout


def test_eval_takes_the_bundled_model_by_default_and_as_many_queries_as_asked(folder: Path) -> None:
    result = runner.invoke(app, ["eval", str(folder), "--queries", "1"])
    [row] = json.loads(result.stdout)["collections"]
    assert row["queries"] == 1 and list(row["models"]) == ["bundled"]


def test_eval_compares_with_a_baseline_and_keeps_each_query_s_value(
    folder: Path, tmp_path: Path, checkpoint_folder: Callable[..., Path]
) -> None:
    other = checkpoint_folder("bert")
    arguments = ["eval", str(folder), "--model", str(other), "--baseline", "bundled", "--strata"]
    record = json.loads(runner.invoke(app, arguments).stdout)
    [row], [values] = record["collections"], record["by query"]
    assert list(row["models"]) == [other.name, "bundled"] and record["baseline"]["model"] == "bundled"
    [small, everything] = record["baseline"]["models"][other.name]
    expected = row["models"][other.name]["nDCG@10"]["mean"] - row["models"]["bundled"]["nDCG@10"]["mean"]
    assert small["difference"] == pytest.approx(expected, abs=2e-4) and 0 < small["p"] <= 1
    assert (small["collection"], everything["collection"]) == ("small", "all queries")
    for name, figures in row["models"].items():
        by_query = [query[name] for query in values["queries"].values()]
        assert sum(by_query) / 2 == pytest.approx(figures["nDCG@10"]["mean"], abs=2e-4)
    assert list(values["queries"]) == ["q1", "q2"]
    assert sum(s["queries"] for s in record["strata"] if s["respect"] == "query words") == 2


def test_a_baseline_that_is_among_the_models_is_measured_once(folder: Path) -> None:
    arguments = ["eval", str(folder), "--model", "bundled", "--model", str(BUNDLED), "--baseline", "bundled"]
    record = json.loads(runner.invoke(app, arguments).stdout)
    assert list(record["mean"]["models"]) == ["bundled", "bundled (2)"]
    assert list(record["baseline"]["models"]) == ["bundled (2)"]


def test_eval_says_what_was_cut(folder: Path) -> None:
    with (folder / "corpus.jsonl").open("a") as corpus:
        corpus.write(json.dumps({"_id": "p6", "text": "sugar " * 1000}) + "\n")
    (folder / "runs" / "test.x.trec").write_text("q1 Q0 p6 1 5 x\nq1 Q0 p2 2 4 x\n")
    result = runner.invoke(app, ["eval", str(folder)])
    assert "note: 1 passages were cut to 512 tokens for bundled" in result.stderr
    assert json.loads(result.stdout)["passages cut"] == {"bundled": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}/none"], "corpus.jsonl"),
        (["{folder}", "--split", "dev"], "dev.tsv"),
        (["{folder}", "--dtype", "int3"], "dtype is 'int3'"),
        (["{folder}", "--device", "cuda:99"], "device is 'cuda:99'"),
        (["{folder}", "--model", "/no/such/folder"], "there is no folder"),
        (["{folder}", "--json", "/no/such/folder/out.json"], "--json is '/no/such/folder/out.json'"),
        (["{folder}", "--baseline", "bundled"], "--baseline is 'bundled', the only model"),
        (["{folder}", "--plot", "{folder}"], "--plot is"),
        (["{folder}", "--plot", "{folder}/bars.svg"], "ends in .png"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments: list[str], message: str, folder: Path) -> None:
    result = runner.invoke(app, ["eval", *(a.format(folder=folder) for a in arguments)])
    assert result.exit_code == 2
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(("module", "more"), [("ir_measures", []), ("scipy", []), ("matplotlib", ["--plot", "x.png"])])
def test_a_missing_extra_is_named_before_any_work(
    module: str, more: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = runner.invoke(app, ["eval", str(folder), "--model", "/no/such/folder", *more])
    assert result.exit_code == 2
    assert f"{module} is not installed. Run: pip install ir-measures scikit-learn scipy matplotlib" in result.stderr


def test_nothing_heavy_is_imported_for_help_and_no_torch_to_evaluate(folder: Path) -> None:
    code = f"""
import sys
from gliclass_rerank.cli.app import app
assert not {{"torch", "transformers", "ir_measures", "scipy", "numpy", "matplotlib"}} & set(sys.modules)
from gliclass_rerank.evaluation import evaluate, read_collection
evaluate(read_collection({str(folder)!r}), lambda query, passages: [0.0] * len(passages))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
