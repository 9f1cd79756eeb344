"""Reading passages from files, writing files atomically, and progress bars."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from gliclass_rerank.data.atomic_write import atomic_write
from gliclass_rerank.data.passage_files import Layout, PassageFiles
from gliclass_rerank.data.progress import progress, progress_bar


def read(path: Path, layout: Layout = Layout.AUTO, text_column: str = "text") -> list[tuple[str, str]]:
    """Each passage with its source behind the name of the file."""
    passages = PassageFiles([str(path)], layout, text_column)
    rows = [(passage.text, passage.source.removeprefix(str(path))) for passage in passages]
    assert len(passages) == len(rows)
    return rows


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"text": "one", "title": "T"}\n\n{"text": "two"}\n"three"', [("T one", ":1"), ("two", ":3"), ("three", ":4")]),
        ("a.txt", "one\nmore\n\n\ntwo\n", [("one\nmore", ":1"), ("two", ":5")]),
        ("a.md", "# Head\n\nbody\r\n\r\nlast", [("# Head\nbody", ":1"), ("last", ":5")]),
        ("a.txt", "#tag one\n\nsecond", [("#tag one", ":1"), ("second", ":3")]),
        ("a.md", "body\n\n## End\n", [("body", ":1"), ("## End", ":3")]),
        ("a.md", "intro\n# Head\n\nbody", [("intro", ":1"), ("# Head\nbody", ":2")]),
        ("a.log", "one\n\u2028\n  two \n", [("one", ":1"), ("two", ":3")]),
        ("a.txt", "\ufeffone", [("one", ":1")]),
        ("a.txt", "", []),
        ("a.json", '[{"text": "one\\ntwo", "title": "T"}, "three"]', [("T one\ntwo", "[0]"), ("three", "[1]")]),
        ("a.json", "[]", []),
        ("a.csv", 'id,text\n1,"one, and\nmore"\n\n2,"say ""two"""\n', [("one, and\nmore", ":2"), ('say "two"', ":5")]),
        ("a.csv", "\ufefftext;id\r\none;1\r\n", [("one", ":2")]),
        ("a.tsv", "text\ttitle\none\tT\n", [("T one", ":2")]),
        ("a.csv", "text\n", []),
        ("a.csv", "", []),
    ],
)  # fmt: skip
def test_each_kind_of_file_gives_its_passages(
    name: str, content: str, expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read(path) == expected


def test_the_text_column_can_be_named(tmp_path: Path) -> None:
    for name, content in {
        "a.csv": "id,body\n1,one\n",
        "a.json": '[{"body": "one"}]',
        "a.jsonl": '{"body": "one"}',
    }.items():
        (tmp_path / name).write_text(content)
        assert [text for text, _ in read(tmp_path / name, text_column="body")] == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,body\n1,one\n", "a.csv has the columns 'id', 'body', but not 'text'. .*--text-column"),
        ("a.csv", "just a line", "a.csv has the columns 'just a line'.*--layout lines"),
        ("a.csv", "id,text\n1,one, two\n", "a.csv:2 has 3 columns, but the header has 2. Put quotes"),
        ("a.csv", 'id,text\n1,"one\n2,two\n', "is not CSV: unexpected end of data. Close every quote"),
        ("a.json", '{"text": "one"}', "a.json is a JSON object; expected an array of objects"),
        ("a.json", '{"text": "one"}\n{"text": "two"}', "a.json is not JSON: Extra data.*--layout jsonl"),
        ("a.json", '[{"text": "one"}, {"tex', "a.json is not JSON.*cut short"),
        ("a.json", '[{"text": "one"}, {"body": "two"}]', r"a.json\[1\] has no \"text\" string, but 'body'"),
        ("a.json", "[[]]", r"a.json\[0\] has no \"text\" string: it is a JSON array"),
        ("a.jsonl", '{"text": "one"}\n{"te', "a.jsonl:2 is not JSON.*cut short"),
    ],
)
def test_an_error_names_the_place_and_the_way_out(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("content", [b'{"title": "no text"}', b"[1]", b'{"text": 5}', b"[" * 100_000, b"1" * 5000])
def test_json_lines_without_text_are_refused_by_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + content)
    with pytest.raises(ValueError, match=r"a\.jsonl:2"):
        read(path)


@pytest.mark.parametrize("layout", list(Layout))
def test_bytes_that_are_not_utf8_are_refused(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a\.bin is not UTF-8"):
        read(path, layout)


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "inner/c.csv", "skipped.png", ".hidden/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\none\n")
    assert [source for _, source in read(tmp_path)] == ["/a.txt:1", "/b.md:1", "/inner/c.csv:2"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match=r"the folder '.*empty' has no file that ends in \.txt"):
        read(tmp_path / "empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_can_be_read_again(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("text\none\n",))
    writer.start()
    passages = PassageFiles([str(pipe)])
    writer.join()
    assert len(passages) == 1
    assert [passage.text for passage in passages] == [passage.text for passage in passages] == ["one"]


# Atomic writes


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with pytest.raises(OSError, match=r"the disk is full, so .* was not written") as caught, atomic_write(path) as file:
        file.symlink_to("/dev/full")
        file.write_text("more than fits")
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_the_flush_has_a_writable_descriptor_as_windows_demands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def windows_fsync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "fsync", windows_fsync)
    with atomic_write(tmp_path / "a") as unfinished:
        unfinished.write_text("content")
    assert (tmp_path / "a").read_text() == "content"


# Progress


def test_a_progress_bar_stays_out_of_pipes(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("counting", 3, delay=0) as advance:
        advance(3)
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_a_progress_bar_for_long_work_only(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # how Rich is told that a pipe shows what a terminal shows
    assert list(progress(range(3), "short work")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")
    with progress_bar("long work", 3, delay=0) as advance:
        advance(2)
        shown = ""
        for _ in range(1000):
            shown += capfd.readouterr().err
            if "2/3" in shown:
                break
            threading.Event().wait(0.01)
    assert "long work" in shown and "2/3" in shown
