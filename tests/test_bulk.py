"""Bulk scoring: rows that cannot be scored keep their places, and a stopped run can be resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.bulk.part_files import open_part_file
from gliclass_rerank.bulk.rows import RowScorer
from gliclass_rerank.bulk.run_record import open_run
from gliclass_rerank.options import RerankerOptions
from tests.json_lines import write_rows
from tests.own_network import is_possible, popen

QUERY = "How do plants make sugar?"
PASSAGES = ["The market closed early.", "Leaves turn light, water and air into sugar.", "Sugar comes in bags."]
needs_network = pytest.mark.skipif(not is_possible(), reason="this system does not allow a private network (unshare)")


@pytest.fixture(scope="module")
def scorer(bundled: GLiClassReranker) -> RowScorer:
    return RowScorer(RerankerOptions(device="cpu", dtype="float32"))


def pairs(number: int) -> list[dict[str, Any]]:
    return [{"id": i, "query": QUERY, "passage": f"{PASSAGES[i % 3]} {i}"} for i in range(number)]


# Rows


def test_rows_get_the_scores_of_score_and_poison_gets_an_error(scorer: RowScorer, bundled: GLiClassReranker) -> None:
    poison: list[Any] = [
        {"query": QUERY, "passage": None},
        {"query": QUERY, "passage": 3},
        {"query": " ", "passage": "a"},
        {"query": QUERY},
        {"query": "sugar " * 600, "passage": "leaves no room"},
        {"query": QUERY, "passages": "one str"},
        {"query": QUERY, "passages": ["a", None]},
        {"query": QUERY, "passage": "a", "score": 12.5},
        "no row",
        None,
    ]
    good: list[Any] = [{"query": QUERY, "passage": passage} for passage in PASSAGES]
    rows = [row for bad, fine in zip(poison, good * 4, strict=False) for row in (bad, fine)]
    results = scorer.score(rows)
    assert all(result["error"] and result.get("score", result.get("scores")) is None for result in results[::2])
    assert [result["error"] for result in results[1::2]] == [None] * 10
    assert [r["score"] for r in results[1::2]] == pytest.approx((bundled.score(QUERY, PASSAGES) * 4)[:10], abs=1e-5)
    assert "passages[1] is None" in results[12]["error"] and "room" in results[8]["error"]


def test_a_row_with_passages_gets_as_many_scores(scorer: RowScorer, bundled: GLiClassReranker) -> None:
    [scored, empty] = scorer.score([{"query": QUERY, "passages": PASSAGES}, {"query": QUERY, "passages": []}])
    assert scored["scores"] == pytest.approx(bundled.score(QUERY, PASSAGES), abs=1e-5)
    assert empty == {"scores": [], "error": None}


def test_batches_of_columns_fit_map_batches(scorer: RowScorer) -> None:
    batch = {"query": np.array([QUERY] * 3), "passage": np.array([*PASSAGES[:2], None], dtype=object), "id": [5, 6, 7]}
    columns = scorer(batch)
    assert columns["id"] == [5, 6, 7] and set(columns) == {"query", "passage", "id", "score", "error"}
    assert columns["score"][1] > columns["score"][0] and np.isnan(columns["score"][2])
    assert list(columns["error"]) == ["", "", "passage is None; expected a str. Convert it or drop it."]
    lists = np.empty(2, dtype=object)
    lists[:] = [np.array(PASSAGES[:2], dtype=object), np.array(PASSAGES[1:], dtype=object)]
    columns = scorer({"query": [QUERY, QUERY], "passages": lists})
    assert [len(scores) for scores in columns["scores"]] == [2, 2] and columns["scores"].shape == (2,)


# Files


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=3)
        | st.just("no JSON at all {"),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_lines_come_back_in_parts_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: Any, size: int) -> None:
    folder = tmp_path_factory.mktemp("lines")
    path = folder / "in.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    file = open_part_file(path)
    parts = list(file.parts(size))
    scored = [(batch, [{"score": 0.5, "error": None} for _ in batch]) for part in parts for batch in file.read(part)]
    file.write(folder / "out", scored)
    written = [json.loads(line) for line in (folder / "out").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [{k: v for k, v in row.items() if k not in ("score", "error")} for row in written] == [
        row if isinstance(row, dict) and not row.keys() & {"score", "scores", "error"} else {"row": row} for row in rows
    ]
    assert file.count_errors(folder / "out", len(rows)) == 0
    assert [part.rows for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert [row for part in parts for batch in file.read(part) for row in batch] == rows


def test_parquet_is_cut_within_its_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    table = pa.Table.from_pylist(pairs(1000))
    times = pa.array(range(1000), pa.timestamp("ns", "Middle-earth/Shire"))  # Python has no such time
    pq.write_table(table.append_column("at", times), path, row_group_size=600)
    file = open_part_file(path)
    parts = list(file.parts(350))
    assert [(part.row_group, part.start, part.rows) for part in parts] == [
        (0, 0, 350),
        (0, 350, 250),
        (1, 0, 350),
        (1, 350, 50),
    ]
    scored = [(b, [{"score": None, "error": "no"}] * len(b)) for part in parts for b in file.read(part)]
    file.write(tmp_path / "out", scored)
    written = pq.read_table(tmp_path / "out")
    assert (
        written.drop_columns(["score", "error"]) == pq.read_table(path)
        and file.count_errors(tmp_path / "out", 1000) == 1000
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["q"], "passage": ["p"], "score": [12.5]}, "a column 'score', which the output needs"),
        ({"query": ["q"]}, "expected query and passage"),
    ],
)
def test_columns_that_would_be_lost_or_are_missing_are_named_at_once(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(ValueError, match=message):
        open_part_file(tmp_path / "in.parquet")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_emptied_cut_or_damaged_part_is_never_counted_as_finished(suffix: str, tmp_path: Path) -> None:
    path, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    rows = pairs(50)
    if suffix == ".jsonl":
        write_rows(path, *rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    file = open_part_file(path)
    [part] = file.parts(100)
    file.write(target, [(batch, [{"score": 0.5, "error": None}] * len(batch)) for batch in file.read(part)])
    whole = target.read_bytes()
    assert file.count_errors(target, 50) == 0
    with pytest.raises(ValueError, match="it has 50 rows, expected 51"):
        file.count_errors(target, 51)
    zeroed = whole[:200] + bytes(100) + whole[300:]
    for content in (b"", whole[:-1], whole[: len(whole) // 2], zeroed):
        target.write_bytes(content)
        with pytest.raises(ValueError, match=r"it has 0 rows|damaged"):
            file.count_errors(target, 50)


# The record of a run


@pytest.fixture
def run_folder(tmp_path: Path, checkpoint_folder: Any) -> tuple[Path, Path, Path]:
    """The output, input and model of a run."""
    model = tmp_path / "model"
    shutil.copytree(checkpoint_folder(), model)
    source, output = write_rows(tmp_path / "in.jsonl", *pairs(3)), tmp_path / "out"
    open_run(output, source, RerankerOptions(str(model)), 10)
    return output, source, model


def test_a_run_with_the_same_model_data_and_settings_can_be_resumed(run_folder: tuple[Path, Path, Path]) -> None:
    output, source, model = run_folder
    open_run(output, source, RerankerOptions(str(model)), 10)
    renamed = model.rename(model.with_name("renamed"))  # the weights count, not where they are
    open_run(output, source, RerankerOptions(str(renamed), token_budget=1000), 10)


def test_a_run_with_another_model_or_data_or_settings_is_refused(run_folder: tuple[Path, Path, Path]) -> None:
    output, source, model = run_folder
    options = RerankerOptions(str(model))
    with pytest.raises(ValueError, match="holds another run: rows_per_part was 10, now 20"):
        open_run(output, source, options, 20)
    with pytest.raises(ValueError, match="max_length was None, now 64"):
        open_run(output, source, RerankerOptions(str(model), max_length=64), 10)
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="the model has other weights"):
        open_run(output, source, options, 10)
    write_rows(source, *pairs(2))
    with pytest.raises(ValueError, match=r"the input has other rows; the model .*Choose another output folder"):
        open_run(output, source, options, 10)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_record_is_named(run_folder: tuple[Path, Path, Path], content: str) -> None:
    output, source, model = run_folder
    (output / "bulk.json").write_text(content)
    with pytest.raises(ValueError, match=r"bulk\.json is damaged.*Choose another output folder"):
        open_run(output, source, RerankerOptions(str(model)), 10)


def test_parts_without_a_record_are_not_adopted(run_folder: tuple[Path, Path, Path]) -> None:
    output, source, model = run_folder
    (output / "bulk.json").unlink()
    (output / "part-0000000.jsonl").touch()
    with pytest.raises(ValueError, match=r"holds parts but no bulk\.json"):
        open_run(output, source, RerankerOptions(str(model)), 10)


# The command


def start(source: Path, output: Path, home: Path) -> Any:
    command = [sys.executable, "-m", "gliclass_rerank.cli", "bulk", os.fspath(source), os.fspath(output)]
    return popen([*command, "--device", "cpu", "--rows-per-part", "5"], home)


def read_parts(output: Path) -> list[Any]:
    return [
        json.loads(line)
        for part in sorted(output.glob("part-*.jsonl"))
        for line in part.read_text(encoding="utf-8").splitlines()
    ]


@pytest.mark.slow
@needs_network
def test_a_run_that_was_killed_goes_on_and_gives_the_same(tmp_path: Path, short_home: Path, scorer: RowScorer) -> None:
    rows: list[Any] = [{**row, "passage": row["passage"] + " It takes a while." * 40} for row in pairs(100)]
    rows[7], rows[75] = {"query": QUERY, "passage": None}, {"id": 75, "query": QUERY}
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    write_rows(source, *rows)
    process = start(source, output, short_home)
    while not list(output.glob("part-*.jsonl")) and process.poll() is None:
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    written = {path: path.stat().st_mtime_ns for path in sorted(output.glob("part-*.jsonl"))}
    assert 0 < len(written) < 20
    emptied, _ = written.popitem()
    emptied.write_text("")
    done, log = start(source, output, short_home).communicate()
    damage = f"{emptied}: it has 0 rows, expected 5"
    assert json.loads(done) == {"rows": 100, "done": 100, "failed": 2, "damaged": [damage]}, log
    assert log == f"note: {damage}; it is scored again\n"
    assert all(path.stat().st_mtime_ns == at for path, at in written.items())
    results = read_parts(output)
    assert [row.get("id") for row in results] == [row.get("id") for row in rows]
    assert [i for i, row in enumerate(results) if row["error"]] == [7, 75]
    expected = scorer.score(rows)
    scores = [row["score"] for row in results if not row["error"]]
    # The command runs in bf16 where that is fast.
    assert scores == pytest.approx([row["score"] for row in expected if not row["error"]], abs=5e-3)
    source.write_text(json.dumps(rows[0]))
    process = start(source, output, short_home)
    assert "holds another run" in process.communicate()[1] and process.returncode == 2


@pytest.mark.slow
@needs_network
def test_parquet_of_lists_gets_lists_of_scores(tmp_path: Path, short_home: Path, bundled: GLiClassReranker) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out"
    rows = [{"query": QUERY, "passages": PASSAGES}, {"query": None, "passages": PASSAGES}]
    pq.write_table(pa.Table.from_pylist(rows), source)
    done, log = start(source, output, short_home).communicate()
    assert json.loads(done) == {"rows": 2, "done": 2, "failed": 1, "damaged": []} and log == ""
    first, second = pq.read_table(output / "part-0000000.parquet").to_pylist()
    assert first["scores"] == pytest.approx(bundled.score(QUERY, PASSAGES), abs=5e-3) and first["error"] is None
    assert second["scores"] is None and "query is None" in second["error"]
