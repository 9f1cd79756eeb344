"""The examples run offline and say honestly what reranking gains; so does the written corpus."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples import ask_folder
from examples.python_docs import ANSWERS, compare_ranks, read_passages
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.bm25 import KeywordIndex
from gliclass_rerank.engine.checkpoint import BUNDLED
from gliclass_rerank.evaluation import evaluate, read_collection
from tests.random_checkpoints import OfficialPipeline
from tests.written_corpus import CORPUS, TEXTS, qrels

ROOT = Path(__file__).parent.parent


def test_the_test_questions_are_every_seventh_of_those_written_before_any_model_saw_them() -> None:
    assert list(qrels("test").items()) == list(qrels("all").items())[6::7]


@pytest.mark.slow
def test_bf16_ranks_the_written_corpus_as_well_as_fp32(bundled: GLiClassReranker) -> None:
    bf16 = GLiClassReranker.from_pretrained(device="cpu", dtype="bfloat16")
    for split in ("all", "hard"):
        collection = read_collection(CORPUS, split)
        in_fp32, in_bf16 = (evaluate(collection, r.score).reranked["nDCG@10"].mean for r in (bundled, bf16))
        one = 0.4 / len(collection.queries)  # what it costs if the first hit of one question becomes its second
        assert in_bf16 == pytest.approx(in_fp32, abs=one), split


def test_the_official_library_gives_the_bundled_model_the_same_scores(bundled: GLiClassReranker) -> None:
    passages = TEXTS[:12]
    question = "Why does bread rise?"
    assert bundled.score(question, passages) == pytest.approx(
        OfficialPipeline(BUNDLED).score(question, passages), abs=1e-5
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


@pytest.mark.parametrize("question", ANSWERS)
def test_each_question_of_the_examples_has_one_right_passage(question: str) -> None:
    assert sum(ANSWERS[question] in passage for passage in read_passages()) == 1


def test_the_examples_call_a_loss_a_loss() -> None:
    question, phrase = next(iter(ANSWERS.items()))
    right, other = f"It {phrase}.", "Something else."
    assert "a loss" in (compare_ranks(question, [right, other], [other, right]) or "")
    assert "a win" in (compare_ranks(question, [other, right], [right, other]) or "")
    assert "no change" in (compare_ranks(question, [right, other], [right, other]) or "")
    assert compare_ranks(question, [other], [other]) is None
    assert compare_ranks("a question of one's own", [right], [right]) is None


NOTES = {
    "garden.md": "# Roses\n\nPrune roses in March. Cut above an outward bud.\n\nFeed them in April.\n",
    "house/heating.md": "# Heating\n\nThe boiler is in the cellar.\n\n## Radiators\n\nBleed the radiators in October.\n",
    "house/.hidden/secret.md": "Roses are pruned by nobody.\n",
}
QUESTION = "When should I prune my roses?"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    for name, text in NOTES.items():
        path = tmp_path / "notes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "notes"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """A server that speaks OpenAI's protocol: texts with "rose" have one embedding, others another."""
    requests: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((f"{self.headers['Authorization']} {self.path}", body))
            if self.path == "/v1/embeddings":
                rows = [[3.0, 0.0] if "rose" in text.lower() else [0.0, 2.0] for text in body["input"]]
                answer: Any = {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]}
            else:
                answer = {"choices": [{"message": {"role": "assistant", "content": "In March [1]."}}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Write nothing to the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "a key")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield requests
        server.shutdown()
        thread.join()


def test_short_paragraphs_below_one_heading_of_a_folder_s_files_are_one_passage(notes: Path) -> None:
    passages = {passage.source: passage.text for passage in ask_folder.read_folder(notes)}
    assert passages == {
        f"{notes / 'garden.md'}:1": "# Roses\nPrune roses in March. Cut above an outward bud.\n\nFeed them in April.",
        f"{notes / 'house/heating.md'}:1": "# Heating\nThe boiler is in the cellar.",
        f"{notes / 'house/heating.md'}:5": "## Radiators\nBleed the radiators in October.",
    }


def test_a_folder_answers_with_its_sources_and_marked_sentences(
    notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask_folder.main(notes, [QUESTION, "Who won the football match?"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "garden.md:1 score 0." in printed and "»Prune roses in March.«" in printed
    assert "Who won the football match? Nothing in the folder answers that." in printed and "nobody" not in printed


def test_an_endpoint_embeds_passages_and_writes_the_answer_from_the_context(
    notes: Path, endpoint: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    ask_folder.main(notes, [QUESTION, QUESTION], chat_model="writer", embedding_model="finder")
    assert "In March [1]." in capsys.readouterr().out
    assert {path for path, _ in endpoint} == {"Bearer a key /v1/embeddings", "Bearer a key /v1/chat/completions"}
    first, second = (body["messages"] for path, body in endpoint if path.endswith("completions"))
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert first[1]["content"].startswith("[1] # Roses") and first[1]["content"].endswith(QUESTION)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("search_python_docs", "reranked: 50"),
        ("langchain_rag", "the prompt of the chain: Answer from these passages alone."),
        ("llama_index_rag", "the query engine answers from the nodes"),
        ("haystack_rag", "saved as YAML and loaded again: GLiClassRanker"),
        ("context_window", "after: "),
    ],
)
def test_the_example_runs_offline(name: str, shown: str) -> None:
    command = [sys.executable, "-m", f"examples.{name}", "How can I read a file line by line?"]
    completed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown in " ".join(completed.stdout.split())
