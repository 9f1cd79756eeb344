"""Reading collections: passages, queries, judgements and candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliclass_rerank.evaluation import read_collection
from tests.small_collections import PASSAGES, QRELS, QUERIES, RUN, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a run for two of its three queries."""
    return write(tmp_path / "small", run=RUN)


def test_a_run_gives_the_candidates_and_the_queries(folder: Path) -> None:
    collection = read_collection(folder)
    assert collection.name == "small" and collection.first_stage == "test.x.trec"
    assert collection.candidates == RUN
    assert collection.queries == {query: QUERIES[query] for query in RUN}
    assert collection.qrels == {"q1": {"p2": 1}, "q2": {"p4": 2}}
    assert collection.passages["p1"] == "The stock market closed early."
    assert collection.passages["p2"] == "Photosynthesis Leaves turn light, water and air into sugar."
    assert collection.passages["p5"] == "Point the hour hand at the sun to find north."


def test_the_run_of_another_split_is_another_s(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").write_text("q3\tp5\t1\n")  # no header
    (folder / "runs" / "test2.y.trec").write_text("q1 Q0 p1 1 1.0 y\n")
    assert read_collection(folder, "dev").first_stage == "BM25, first 50"
    assert read_collection(folder).first_stage == "test.x.trec"


def test_judged_passages_are_shuffled_alike_whichever_queries_are_drawn(tmp_path: Path) -> None:
    qrels = [(query, passage, int(passage == "p2")) for query in ("q1", "q2", "q3") for passage in PASSAGES]
    folder = write(tmp_path / "list", qrels=[*qrels[:5], ("q2", "p1", 0), *qrels[10:]])
    every = read_collection(folder)
    assert every.first_stage == "judged passages, shuffled"
    assert list(every.queries) == ["q1", "q3"]  # nothing is relevant to q2
    assert all(sorted(ids) == list(PASSAGES) for ids in every.candidates.values())
    [drawn] = read_collection(folder, queries=1).candidates.items()
    assert every.candidates[drawn[0]] == drawn[1]
    orders = {tuple(read_collection(folder, seed=seed).candidates["q1"]) for seed in range(10)}
    assert len(orders) > 3 and read_collection(folder, seed=3) == read_collection(folder, seed=3)


def test_bm25_finds_candidates_where_only_relevant_passages_are_judged(tmp_path: Path) -> None:
    # q2 has only an irrelevant one: a list of its own would still be no choice for the others.
    folder = write(tmp_path / "full", qrels=[("q1", "p2", 1), ("q2", "p1", 0), ("q3", "p1", 1)])
    collection = read_collection(folder)
    assert collection.first_stage == "BM25, first 50"
    assert set(collection.candidates["q1"]) == {"p2", "p3", "p4"}  # those that share a word
    assert collection.candidates["q3"] == ["p5"]


def test_queries_are_drawn_by_seed_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a"), write(tmp_path / "b", qrels=QRELS[::-1])
    drawn = [tuple(read_collection(one, queries=2, seed=seed).queries) for seed in range(10)]
    assert drawn == [tuple(read_collection(other, queries=2, seed=seed).queries) for seed in range(10)]
    assert len(set(drawn)) > 1 and all(len(set(queries)) == 2 for queries in drawn)
    assert len(read_collection(one, queries=99).queries) == 3


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "p1", "text": "a"}\n{"text": "b"}', r'corpus\.jsonl:2 has no "_id" string'),
        ("corpus.jsonl", '{"_id": "p1", "text": "a"}\n\n{"_id": "p2"}', r'corpus\.jsonl:3 has no "text" string'),
        ("corpus.jsonl", '{"_id": "p1", "text": "a"}\n{"_id"', r"corpus\.jsonl:2 is not JSON"),
        ("corpus.jsonl", '{"_id": "p1", "text": "a"}\n["_id", "text"]', r"corpus\.jsonl:2 is .*expected a JSON object"),
        (
            "corpus.jsonl",
            '{"_id": "p1", "text": "a"}\n{"_id": "p1", "text": "b"}',
            r"corpus\.jsonl:2: .*'p1'.* earlier",
        ),
        ("corpus.jsonl", '{"_id": "p1", "text": "a", "title": 5}', r'corpus\.jsonl:1: "title" is 5'),
        ("corpus.jsonl", b"\xff\xfe", r"corpus\.jsonl is not UTF-8"),
        ("queries.jsonl", '{"_id": "q1", "text": " "}', r'queries\.jsonl:1: "text" is \' \''),
        ("queries.jsonl", '{"_id": 1, "text": "a"}', r'queries\.jsonl:1 has no "_id" string'),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\tp2", r"test\.tsv:2 has 2 columns; expected 3"),
        ("qrels/test.tsv", "q1 p2 1", r"test\.tsv:1 has 1 columns; expected 3, separated by tabs"),
        ("qrels/test.tsv", "q9\tp2\t1", r"test\.tsv:1: query 'q9' is not in queries\.jsonl"),
        ("qrels/test.tsv", "q1\tp2\t1\nq1\tp9\t0", r"test\.tsv:2: passage 'p9' is not in corpus\.jsonl"),
        ("qrels/test.tsv", "q1\tp2\tyes", r"test\.tsv:1: the relevance is 'yes'"),
        ("qrels/test.tsv", "q1\tp2\t0.5", r"test\.tsv:1: the relevance is 0\.5; expected a whole number"),
        ("qrels/test.tsv", "q1\tp2\t1\nq1\tp2\t0", r"test\.tsv:2: .*judged differently"),
        ("qrels/test.tsv", "q1\tp2\t0", r"no query of the split 'test' has a relevant passage"),
        ("qrels/test.tsv", "", r"no query of the split 'test'"),
        ("runs/test.x.trec", "q1 Q0 p1 1 5.0", r"x\.trec:1 has 5 columns; expected 6"),
        ("runs/test.x.trec", "q1 Q0 p9 1 5.0 x", r"x\.trec:1: passage 'p9' is not in corpus\.jsonl"),
        ("runs/test.x.trec", "q9 Q0 p1 1 5.0 x", r"x\.trec:1: query 'q9' is not in queries\.jsonl"),
        ("runs/test.x.trec", "q1 Q0 p1 1 5 x\nq1 Q0 p1 2 4 x", r"x\.trec:2: .* has passage 'p1' twice"),
        ("runs/test.x.trec", "q1 Q0 p1 1 5 x\nq1 Q0 p2 2 6 x", r"x\.trec:2: the score 6 is above"),
        ("runs/test.x.trec", "q1 Q0 p1 1 nan x", r"x\.trec:1: the score is 'nan'"),
        ("runs/test.x.trec", "", r"no query of the split 'test'"),
        ("runs/test.y.trec", "q1 Q0 p1 1 5.0 x", r"several runs of the split 'test' \(test\.x\.trec, test\.y\.trec\)"),
    ],
)
def test_broken_files_are_refused_by_file_and_line(file: str, content: str | bytes, message: str, folder: Path) -> None:
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_collection(folder)


def test_a_missing_file_and_a_count_below_one_are_refused(folder: Path) -> None:
    with pytest.raises(OSError, match=r"dev\.tsv"):
        read_collection(folder, "dev")
    with pytest.raises(ValueError, match="queries is 0"):
        read_collection(folder, queries=0)
