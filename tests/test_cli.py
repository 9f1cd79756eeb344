"""The command line: commands, options, output and error messages."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gliclass_rerank import GLiClassReranker, ZeroShotClassifier, __version__
from gliclass_rerank.cli.app import app
from gliclass_rerank.cli.rank import make_table
from tests.json_lines import write_rows

QUESTION = "How do plants make sugar?"
LINES = "The stock market closed early.\n\nLeaves turn light, water and air into sugar.\n"
runner = CliRunner()


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "passages"
    path.write_text(LINES)
    return path


def rank(*arguments: str, text: str | None = None) -> list[dict[str, object]]:
    result = runner.invoke(app, ["rank", QUESTION, *arguments], input=text)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, object]] = json.loads(result.stdout)
    return rows


def test_a_file_of_lines_is_ranked(lines: Path) -> None:
    first, second = rank(str(lines))
    assert first["text"] == "Leaves turn light, water and air into sugar."
    assert first["rank"] == 1 and first["index"] == 1 and first["source"] == f"{lines}:3"
    assert 0 <= second["score"] <= first["score"] <= 1  # type: ignore[operator]


def test_standard_input_and_several_files(lines: Path) -> None:
    rows = rank("-", str(lines), text="Sugar comes in bags.\n")
    assert {row["source"] for row in rows} == {"-:1", f"{lines}:1", f"{lines}:3"}


def test_top_k_and_threshold(lines: Path) -> None:
    [best] = rank(str(lines), "--top-k", "1")
    assert rank(str(lines), "--threshold", "1.0") == []
    assert best["rank"] == 1


def test_a_model_folder_and_a_device(lines: Path, checkpoint_folder: object) -> None:
    folder = checkpoint_folder(prompt_first=True, scorer_type="mlp")  # type: ignore[operator]
    assert len(rank(str(lines), "--model", str(folder), "--device", "cpu", "--json")) == 2


def test_facets_and_windows(tmp_path: Path, lines: Path) -> None:
    path = tmp_path / "long"
    path.write_text("The council met on Monday. " * 200 + LINES.splitlines()[2] + " The council left." * 200)
    long, *short = sorted(
        rank(str(path), str(lines), "--windows", "--facet", "is about plants"),
        key=lambda row: row["source"] != f"{path}:1",
    )
    start, end = long["span"]  # type: ignore[misc]
    assert LINES.splitlines()[2] in path.read_text()[start:end] and not long["truncated"]
    assert all(list(row["facets"]) == ["is about plants"] and "span" not in row for row in short)  # type: ignore[call-overload]


def test_a_note_counts_the_passages_that_were_cut(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text("sugar " * 1000)
    result = runner.invoke(app, ["rank", QUESTION, str(path)])
    assert "1 of these passages were cut to 512 tokens" in result.stderr


def test_many_blocks_give_the_same_ranking_as_one_call(tmp_path: Path, bundled: GLiClassReranker) -> None:
    passages = [f"Sugar comes in {number} bags." for number in range(300)] + [LINES.splitlines()[2], ""]
    path = write_rows(tmp_path / "many.jsonl", *({"text": passage} for passage in passages))
    expected = bundled.rank(QUESTION, passages, top_k=5)
    rows = rank(str(path), "--top-k", "5", "--device", "cpu")
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["index"] == 300 and rows[0]["source"] == f"{path}:301"
    assert [row["score"] for row in rows] == pytest.approx([hit.score for hit in expected], abs=5e-3)
    everything = rank(str(path), "--device", "cpu")
    assert everything[:5] == rows and len(everything) == 302 and everything[-1]["index"] == 301
    assert sorted(row["index"] for row in everything) == list(range(302))  # type: ignore[type-var]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RUSAGE_CHILDREN counts other units elsewhere")
def test_reading_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    row = json.dumps({"text": "Sugar comes in bags. " * 50}) + "\n"
    code = (
        "import resource, sys; from gliclass_rerank.data.passage_files import PassageFiles; "
        "count = sum(1 for _ in PassageFiles([sys.argv[1]])); "
        "print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def read(rows: int) -> tuple[int, int]:
        with path.open("w") as file:
            file.writelines(row for _ in range(rows))
        output = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
        count, kilobytes = map(int, output.split())
        return count, kilobytes

    few, small_peak = read(100)
    many, large_peak = read(200_000)  # 200 MB
    assert (few, many) == (100, 200_000) and large_peak - small_peak < 20_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-file"], "there is no file or folder 'no-such-file'"),
        (["{lines}", "--model", "/no/such/folder"], "there is no folder"),
        (["{lines}", "--device", "cuda:99"], "device is 'cuda:99'"),
        (["{lines}", "--layout", "jsonl"], "is not JSON"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments: list[str], message: str, lines: Path) -> None:
    result = runner.invoke(app, ["rank", QUESTION, *(a.format(lines=lines) for a in arguments)])
    assert result.exit_code == 2
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("error: ") and message in line
    assert "Traceback" not in result.output


def test_files_without_passages_give_an_empty_array_and_a_note(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    result = runner.invoke(app, ["rank", QUESTION, str(tmp_path / "empty.txt")])
    assert (result.exit_code, json.loads(result.stdout)) == (0, []) and "hold no passages" in result.stderr


def test_a_blank_question_is_refused_even_without_passages(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    result = runner.invoke(app, ["rank", " ", str(tmp_path / "empty.txt")])
    assert result.exit_code == 2 and "query" in result.stderr


def table_lines(row: dict[str, Any], encoding: str = "utf-8") -> str:
    written = io.BytesIO()
    console = Console(file=io.TextIOWrapper(written, encoding=encoding, write_through=True), width=80)
    console.print(make_table([{"rank": 1, "score": 0.5, **row}], encoding))
    return written.getvalue().decode(encoding)


def test_a_passage_is_never_read_as_markup() -> None:
    shown = table_lines({"text": "[red]not red[/red] [/] \x1b[2J\x1b]0;title\x07"})
    assert "[red]not red[/red] [/]" in shown
    assert "\x1b" not in shown and "\x07" not in shown


def test_the_table_has_facets_and_shows_the_best_window() -> None:
    row = {"text": "far away: here it is", "span": [10, 20], "facets": {"is [red]new": 0.25}}
    header, line = table_lines(row).splitlines()
    assert "is [red]new" in header and "0.250" in line and "here it is" in line and "far away" not in line


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_characters_that_the_terminal_cannot_show_become_question_marks(encoding: str) -> None:
    shown = table_lines({"text": "lone \ud800, \u202eabc, 東京"}, encoding)
    assert "lone ?, abc" in shown and ("東京" in shown) == (encoding == "utf-8")


# --- the command itself ------------------------------------------------------------------------


def test_version_prints_the_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"gliclass-rerank {__version__}\n")


def test_completion_can_be_installed() -> None:
    result = runner.invoke(app, ["--help"])
    assert "--install-completion" in result.stdout and "--show-completion" in result.stdout


def test_the_module_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "gliclass_rerank.cli", "rank", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Usage: gliclass-rerank rank" in result.stdout


@pytest.mark.parametrize("command", ["", "rank", "classify", "eval", "train", "calibrate", "serve", "bulk"])
def test_help_fits_80_columns_and_cuts_nothing(command: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    _, body = result.stdout.split("\n", 1)  # behind the usage, whose dots mean "one or more"
    assert result.exit_code == 0 and "…" not in body and not any(line.endswith("...") for line in body.splitlines())
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_train_still_knows_the_old_name_of_the_share_of_several_queries() -> None:
    for name in ("--multi-query-share", "--company"):
        result = runner.invoke(app, ["train", "out", "data", name, "2"])
        assert result.exit_code == 2 and "Invalid value for '--multi-query-share'" in result.stderr


# --- classify ----------------------------------------------------------------------------------


def classify(*arguments: str, text: str | None = None) -> list[dict[str, Any]]:
    result = runner.invoke(app, ["classify", *arguments], input=text)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def test_texts_get_the_labels_that_the_classifier_gives(lines: Path, tmp_path: Path) -> None:
    labels = ["plants", "stock market", "bicycles"]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(labels))
    texts = LINES.split("\n\n")
    for single in (True, False):
        kind = "single-label" if single else "multi-label"
        expected = ZeroShotClassifier.from_pretrained(classification_type=kind)(
            [t.strip() for t in texts], labels, 0.01
        )
        more = ["--threshold", "0.01", *(["--single-label"] if single else [])]
        by_option = classify(str(lines), *(a for label in labels for a in ("--label", label)), *more)
        assert classify(str(lines), "--labels", str(path), *more) == by_option
        assert [row["source"] for row in by_option] == [f"{lines}:1", f"{lines}:3"]
        for row, predictions in zip(by_option, expected, strict=True):
            assert row["labels"] == [{"label": f["label"], "score": round(f["score"], 6)} for f in predictions]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there are no labels"),
        (["--label", "a", "--labels", "b"], "two sources of them"),
        (["--labels", "no-such-file"], "no-such-file"),
    ],
)
def test_classify_names_what_is_wrong(arguments: list[str], message: str, lines: Path) -> None:
    result = runner.invoke(app, ["classify", str(lines), *arguments])
    assert result.exit_code == 2 and message in result.stderr and result.stderr.startswith("error: ")


def test_classify_says_that_all_labels_fall_below_the_threshold_and_what_to_do(lines: Path) -> None:
    arguments = ["classify", str(lines), "--label", "positive", "--label", "negative", "--threshold", "1"]
    result = runner.invoke(app, arguments)
    assert [row["labels"] for row in json.loads(result.stdout)] == [[], []]
    assert "2 of 2 texts got no label" in result.stderr and "--single-label" in result.stderr
    result = runner.invoke(app, [*arguments, "--single-label"])
    assert all(row["labels"] for row in json.loads(result.stdout)) and result.stderr == ""


def test_a_labels_file_that_was_cut_short_is_named_with_the_way_out(lines: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('["plants", ')
    result = runner.invoke(app, ["classify", str(lines), "--labels", str(path)])
    assert result.exit_code == 2 and str(path) in result.stderr and "cut short" in result.stderr


def test_classify_says_that_texts_were_cut(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text("sugar " * 1000)
    result = runner.invoke(app, ["classify", str(path), "--label", "plants", "--threshold", "0"])
    assert "texts were cut" in result.stderr and "512 tokens" in result.stderr
