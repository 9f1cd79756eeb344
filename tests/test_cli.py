from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gliclass_rerank import RankedPassage, ZeroShotClassifier
from gliclass_rerank.cli.app import app
from gliclass_rerank.cli.rank import _as_table
from gliclass_rerank.data.passage_files import Layout, read_passages

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


def test_what_was_cut_is_said(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text("sugar " * 1000)
    result = runner.invoke(app, ["rank", QUESTION, str(path)])
    assert "1 of these passages were cut to 512 tokens" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-file"], "no-such-file"),
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


def test_a_passage_is_never_read_as_markup() -> None:
    console = Console(file=io.StringIO(), width=80)
    hit = RankedPassage(0, 0.5, "[red]not red[/red] [/] \x1b[2J\x1b]0;title\x07", False)
    console.print(_as_table([hit], "utf-8"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]not red[/red] [/]" in shown
    assert "\x1b" not in shown and "\x07" not in shown


def test_the_table_has_facets_and_shows_the_best_window() -> None:
    console = Console(file=io.StringIO(), width=80)
    hit = RankedPassage(0, 0.5, "far away: here it is", False, span=(10, 20), facets={"is [red]new": 0.25})
    console.print(_as_table([hit], "utf-8"))
    header, row = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "is [red]new" in header and "0.250" in row and "here it is" in row and "far away" not in row


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_passage_that_the_terminal_cannot_show_is_shown_with_marks_in_its_place(encoding: str) -> None:
    written = io.BytesIO()
    console = Console(file=io.TextIOWrapper(written, encoding=encoding, write_through=True), width=80)
    console.print(_as_table([RankedPassage(0, 0.5, "lone \ud800, \u202eabc, 東京", False)], console.encoding))
    shown = written.getvalue().decode(encoding)
    assert "lone ?, abc" in shown and ("東京" in shown) == (encoding == "utf-8")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"text": "one", "title": "T"}\n\n{"text": "two"}\n', [("T one", 1), ("two", 3)]),
        ("a.txt", "one\nmore\n\n\ntwo\n", [("one\nmore", 1), ("two", 5)]),
        ("a.md", "# Head\n\nbody\r\n\r\nlast", [("# Head\nbody", 1), ("last", 5)]),
        ("a.txt", "#tag one\n\nsecond", [("#tag one", 1), ("second", 3)]),
        ("a.md", "body\n\n## End\n", [("body", 1), ("## End", 3)]),
        ("a.md", "intro\n# Head\n\nbody", [("intro", 1), ("# Head\nbody", 2)]),
        ("a.csv", "one\n\u2028\n  two \n", [("one", 1), ("two", 3)]),
        ("a.txt", "\ufeffone", [("one", 1)]),
        ("a.txt", "", []),
    ],
)
def test_files_are_split_by_their_kind(name: str, content: str, expected: list[object], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert [(p.text, int(p.source.rsplit(":", 1)[1])) for p in read_passages(str(path))] == expected


@pytest.mark.parametrize("content", [b'{"title": "no text"}', b"[1]", b'{"text": 5}', b"[" * 100_000, b"1" * 5000])
def test_json_lines_without_text_are_refused_by_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + content)
    with pytest.raises(ValueError, match=r"a\.jsonl:2"):
        read_passages(str(path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_passages(str(path), Layout.LINES)


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
        for row, found in zip(by_option, expected, strict=True):
            assert row["labels"] == [{"label": f["label"], "score": round(f["score"], 6)} for f in found]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected labels"),
        (["--label", "a", "--labels", "b"], "expected labels"),
        (["--labels", "no-such-file"], "no-such-file"),
    ],
)
def test_classify_names_what_is_wrong(arguments: list[str], message: str, lines: Path) -> None:
    result = runner.invoke(app, ["classify", str(lines), *arguments])
    assert result.exit_code == 2 and message in result.stderr and result.stderr.startswith("error: ")
