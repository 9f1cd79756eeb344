"""The embedded model on the written corpus, and the examples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.checkpoint import EMBEDDED
from gliclass_rerank.keyword_index import KeywordIndex
from tests.random_checkpoints import OfficialPipeline

EXAMPLES = Path(__file__).parent.parent / "examples"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / "corpus" / name).read_text(encoding="utf-8").splitlines()]


def test_the_first_hit_is_the_expected_passage_for_nine_of_ten_questions(embedded: GLiClassReranker) -> None:
    corpus = rows("corpus.jsonl")
    expected = dict(
        line.split("\t")[:2]
        for line in (EXAMPLES / "corpus" / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    )
    passages = [f"{row['title']} {row['text']}" for row in corpus]
    questions = [q for q in rows("queries.jsonl") if q["_id"] in expected]
    hits = [corpus[embedded.rank(q["text"], passages, top_k=1)[0].index]["_id"] for q in questions]
    right = [hit == expected[question["_id"]] for hit, question in zip(hits, questions, strict=True)]
    assert len(corpus) >= 60 and len(right) == 10
    assert sum(right) >= 9, [q["text"] for q, r in zip(questions, right, strict=True) if not r]


def test_the_official_library_gives_the_embedded_model_the_same_scores(embedded: GLiClassReranker) -> None:
    passages = [f"{row['title']} {row['text']}" for row in rows("corpus.jsonl")[:12]]
    question = "Why does bread rise?"
    assert embedded.score(question, passages) == pytest.approx(
        OfficialPipeline(EMBEDDED).score(question, passages), abs=1e-5
    )


def test_keyword_search_finds_by_words_and_reads_nothing_else_into_them() -> None:
    index = KeywordIndex(["green apples", "a blue sky", "apples, apples and an apple"])
    assert index.search("apple", top_k=5) == [2, 0]
    assert index.search("apple", top_k=1) == [2]
    assert index.search('sky" OR "apples NEAR(* ) -', top_k=5) != []
    assert index.search("?!", top_k=5) == []
    assert index.search("apple", top_k=-1) == []
    assert KeywordIndex(["cafés", "re\u0301sume\u0301"]).search("r\u00e9sum\u00e9", top_k=5) == [1]
    assert KeywordIndex(["cafés", "r\u00e9sum\u00e9"]).search("re\u0301sume\u0301", top_k=5) == [1]
    assert KeywordIndex(["a \ud800 sky"]).search("sky \udfff", top_k=1) == [0]


def test_the_search_example_runs() -> None:
    script = EXAMPLES / "search_python_docs.py"
    done = subprocess.run(
        [sys.executable, script, "How can I read a file line by line?"], capture_output=True, text=True, check=True
    )
    assert "BM25" in done.stdout and "reranked: 50 passages" in done.stdout
