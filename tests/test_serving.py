"""The HTTP server: dialects, errors, limits, and what becomes of work that waits."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.real_server import ServeCommand, Serving
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import Limits, make_app
from gliclass_rerank.serving.batcher import Batcher, ClosedError, OverloadedError
from gliclass_rerank.serving.dialects import RerankBody, read_rerank, write_rerank

QUERY = "How do plants make sugar?"
PASSAGES = ["The market closed early.", "Leaves turn light, water and air into sugar.", "Sugar comes in bags."]


@pytest.fixture(scope="module")
def client(bundled: GLiClassReranker) -> Iterator[httpx.Client]:
    limits = Limits(passages=50, passage_characters=150_000, body_bytes=1_000_000)
    with Serving(make_app(bundled, limits=limits)) as client:
        yield client


# Dialects


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_come_back_best_first_with_the_scores_of_rank(
    path: str, client: httpx.Client, bundled: GLiClassReranker
) -> None:
    body = {"model": "mine", "query": QUERY, "documents": PASSAGES, "top_n": 2, "unknown": {"x": 1}}
    answer = client.post(path, json=body).raise_for_status().json()
    expected = bundled.rank(QUERY, PASSAGES, top_k=2)
    assert [result["index"] for result in answer["results"]] == [hit.index for hit in expected]
    assert [r["relevance_score"] for r in answer["results"]] == pytest.approx([h.score for h in expected], abs=1e-5)
    assert answer["model"] == "mine" and answer["usage"]["total_tokens"] > 0 and answer["id"]
    assert ("document" in answer["results"][0]) == (path == "/rerank")


def test_documents_can_be_objects_and_come_back_on_request(client: httpx.Client) -> None:
    body = {"query": QUERY, "documents": [{"text": p, "page": 1} for p in PASSAGES], "return_documents": True}
    results = client.post("/v1/rerank", json=body).raise_for_status().json()["results"]
    assert [r["document"] for r in results] == [{"text": PASSAGES[r["index"]]} for r in results] and len(results) == 3


def test_texts_are_answered_as_tei_does(client: httpx.Client, bundled: GLiClassReranker) -> None:
    scores = bundled.score(QUERY, PASSAGES)
    found = client.post("/rerank", json={"query": QUERY, "texts": PASSAGES, "truncate": None}).raise_for_status().json()
    assert {r["index"]: r["score"] for r in found} == pytest.approx(dict(enumerate(scores)), abs=1e-5)
    assert [r["score"] for r in found] == sorted((r["score"] for r in found), reverse=True) and "text" not in found[0]
    raw = client.post(
        "/rerank", json={"query": QUERY, "texts": PASSAGES, "raw_scores": True, "return_text": True}
    ).json()
    assert [r["index"] for r in raw] == [r["index"] for r in found]
    assert all(r["text"] == PASSAGES[r["index"]] for r in raw) and min(r["score"] for r in raw) < 0


def test_tei_can_refuse_what_would_be_cut(client: httpx.Client) -> None:
    body = {"query": QUERY, "texts": [*PASSAGES, "sugar " * 1000]}
    assert len(client.post("/rerank", json=body).raise_for_status().json()) == 4
    refused = client.post("/rerank", json={**body, "truncate": False})
    assert refused.status_code == 422 and "passage 3 does not fit into 512 tokens" in refused.json()["error"]
    fitting = {"query": QUERY, "texts": PASSAGES}
    assert (
        client.post("/rerank", json={**fitting, "truncate": False}).json()
        == client.post("/rerank", json=fitting).json()
    )


def test_no_results_are_all_in_vllm_s_dialect_and_a_mistake_in_cohere_s(client: httpx.Client) -> None:
    body = {"query": QUERY, "documents": PASSAGES, "top_n": 0}
    assert len(client.post("/rerank", json=body).raise_for_status().json()["results"]) == 3
    vllm = {**body, "truncate_prompt_tokens": 100}
    assert len(client.post("/v1/rerank", json=vllm).raise_for_status().json()["results"]) == 3
    refused = client.post("/v2/rerank", json=body)
    assert refused.status_code == 400 and "top_n is 0" in refused.json()["message"]


@given(st.lists(st.floats(0, 1), max_size=8), st.none() | st.integers(1, 9))
def test_results_are_sorted_and_equal_ones_keep_their_order(scores: list[float], top_n: int | None) -> None:
    request = read_rerank(RerankBody(query="q", documents=[""] * len(scores), top_n=top_n), "/v2/rerank")
    results = write_rerank(request, scores, "m", 0)["results"]
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert [r["index"] for r in results] == order[:top_n]


# Errors


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": " ", "documents": ["a"]}, "query is ' '"),
        ({"query": "q"}, "either texts or documents"),
        ({"query": "q", "documents": ["a", 3]}, "documents.1"),
        ({"query": "q", "documents": ["a"], "top_n": -1}, "top_n is -1"),
        ({"query": "q", "documents": ["a"], "top_n": "2"}, "top_n"),
        ({"query": "q " * 600, "documents": ["a"]}, "max_length 512"),
    ],
)
def test_a_mistake_is_named_for_every_client(body: dict[str, Any], message: str, client: httpx.Client) -> None:
    answer = client.post("/v1/rerank", json=body)
    assert answer.status_code == 400
    found = answer.json()
    assert message in found["message"] == found["detail"] == found["error"]["message"]


def test_tei_s_errors_are_its_own(client: httpx.Client) -> None:
    answer = client.post("/rerank", json={"query": "", "texts": ["a"]})
    assert answer.status_code == 422 and set(answer.json()) == {"error", "error_type"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[1]", 400),
        (b"{" * 100_000, 400),
        (b"[" * 100_000, 400),
        (b'{"query": "q", "documents": ["' + b"a" * 200_000 + b'"]}', 413),
        (b'{"query": "q", "documents": [' + b'"a",' * 60 + b'"a"]}', 413),
        (b" " * 1_100_000, 413),
    ],
)
def test_what_is_too_much_or_no_json_is_refused(content: bytes, status: int, client: httpx.Client) -> None:
    assert client.post("/v2/rerank", content=content).status_code == status


def test_what_is_too_much_is_refused_before_it_is_looked_at(client: httpx.Client) -> None:
    answer = client.post("/v2/rerank", json={"query": "q", "documents": [1] * 300_000})
    assert answer.status_code == 413 and "300000 documents, at most 50" in answer.json()["message"]
    labels = {"texts": ["a"] * 50, "labels": ["b"] * 50}
    assert client.post("/v1/classify", json=labels | {"prompt": "p" * 2000}).status_code == 413
    assert client.post("/v1/classify", json=labels | {"labels": ["b" * 2000]}).status_code == 413


@pytest.mark.parametrize("body", [{"documents": ["\ud800 a"]}, {"texts": ["\ud800 a"], "return_text": True}])
def test_half_a_character_comes_back_as_it_was(body: dict[str, Any], client: httpx.Client) -> None:
    answer = client.post("/rerank", content=json.dumps({"query": QUERY, **body})).raise_for_status()
    assert "\\ud800 a" in answer.text


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["query", "texts", "documents", "top_n", "text", "labels"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
)
def test_no_body_brings_it_down(client: httpx.Client, body: Any) -> None:
    for path in ("/rerank", "/v2/rerank", "/v1/classify"):
        assert client.post(path, content=json.dumps(body)).status_code < 500


def test_a_key_is_asked_for_where_there_is_one(bundled: GLiClassReranker) -> None:
    with Serving(make_app(bundled, api_key="geheim ü")) as client:
        body = {"query": QUERY, "texts": PASSAGES}
        wrong: dict[str, str]
        for wrong in ({}, {"Authorization": "Bearer no"}, {"X-API-Key": "geheim"}):
            assert client.post("/rerank", json=body, headers=wrong).status_code == 401
        right: dict[str, bytes]
        for right in ({"Authorization": "bearer geheim ü".encode()}, {"X-API-Key": "geheim ü".encode()}):
            assert client.post("/rerank", json=body, headers=right).status_code == 200
        assert client.post("/v1/classify", json={"texts": [], "labels": []}).status_code == 401
        assert client.get("/health").status_code == 200


def test_an_empty_key_is_refused(bundled: GLiClassReranker) -> None:
    with pytest.raises(ValueError, match="api_key is empty"):
        make_app(bundled, api_key=" ")


# The other routes


def test_labels_are_scored(client: httpx.Client) -> None:
    body = {"texts": ["The match ended in a draw."], "labels": ["sports", "cooking"], "single_label": True}
    [[found]] = client.post("/v1/classify", json=body).raise_for_status().json()["results"]
    assert found["label"] == "sports" and 0 < found["score"] <= 1


def test_an_operator_sees_how_it_goes(client: httpx.Client) -> None:
    client.post("/rerank", json={"query": QUERY, "texts": PASSAGES})
    assert client.get("/health").json() == {"status": "ok"} and client.get("/ready").json() == {"status": "ready"}
    info = client.get("/info").json()
    assert info["max_length"] == 512 and info["device"] == "cpu"
    metrics = client.get("/metrics").text
    assert 'gliclass_requests_total{route="/rerank",status="200"}' in metrics
    assert "gliclass_waiting_passages 0.0" in metrics


def test_batched_with_strangers_scores_are_those_alone(client: httpx.Client, bundled: GLiClassReranker) -> None:
    queries = [f"{QUERY} {i}" for i in range(16)]

    def ask(query: str) -> dict[int, float]:
        found = client.post("/rerank", json={"query": query, "texts": PASSAGES}).json()
        return {r["index"]: r["score"] for r in found}

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, queries))
    for query, scores in zip(queries, found, strict=True):
        assert scores == pytest.approx(dict(enumerate(bundled.score(query, PASSAGES))), abs=1e-5)


# The queue


class Held:
    """Scores nothing before it is let go; remembers what it was given."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.seen: list[list[tuple[str, str]]] = []

    def __call__(self, pairs: list[tuple[str, str]]) -> list[float]:
        self.begun.set()
        assert self.go.wait(30)
        self.seen.append(pairs)
        if any(passage == "poison" for _, passage in pairs):
            raise ValueError("poison")
        if any(passage == "broken" for _, passage in pairs):
            raise RuntimeError("broken over geheim")
        return [float(len(passage)) for _, passage in pairs]


class HeldReranker(GLiClassReranker):
    """A reranker that scores nothing before it is let go."""

    def __init__(self, like: GLiClassReranker) -> None:
        super().__init__(like.engine.model, like.options)
        self.held = Held()

    def score_pairs(self, pairs: Any) -> list[float]:
        return [score / (1 + score) for score in self.held(list(pairs))]


def test_when_too_much_waits_the_next_is_told_when_to_come_again(bundled: GLiClassReranker) -> None:
    reranker = HeldReranker(bundled)
    with Serving(make_app(reranker, limits=Limits(waiting=4))) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/rerank", json={"query": "first", "texts": ["a"]})
        assert reranker.held.begun.wait(30)
        second = pool.submit(client.post, "/rerank", json={"query": "second", "texts": ["a", "b", "c"]})
        while "gliclass_waiting_passages 3.0" not in client.get("/metrics").text:
            threading.Event().wait(0.01)
        refused = client.post("/rerank", json={"query": "third", "texts": ["a", "b"]})
        long = client.post("/v2/rerank", json={"query": "third", "documents": ["a" * 8000]})  # counts for three
        assert [refused.status_code, long.status_code] == [429, 429]
        assert refused.json()["error_type"] == "overloaded" and refused.headers["Retry-After"] == "1"
        reranker.held.go.set()
        assert [first.result().status_code, second.result().status_code] == [200, 200]


def test_an_answer_that_takes_too_long_is_given_up(bundled: GLiClassReranker) -> None:
    reranker = HeldReranker(bundled)
    with Serving(make_app(reranker, limits=Limits(seconds=0.2))) as client:
        answer = client.post("/v2/rerank", json={"query": "first", "documents": ["a"]})
        assert answer.status_code == 503 and answer.json()["error"]["type"] == "timeout"
        assert client.get("/ready").status_code == 503 and client.get("/health").status_code == 200
        reranker.held.go.set()
        assert client.post("/v2/rerank", json={"query": "again", "documents": ["a"]}).status_code == 200


def test_what_a_client_that_left_had_asked_for_is_never_scored(bundled: GLiClassReranker) -> None:
    reranker = HeldReranker(bundled)
    with Serving(make_app(reranker)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/rerank", json={"query": "first", "texts": ["a"]})
        assert reranker.held.begun.wait(30)
        with pytest.raises(httpx.ReadTimeout):
            client.post("/rerank", json={"query": "left", "texts": ["a"]}, timeout=0.2)
        while 'status="499"' not in client.get("/metrics").text:
            threading.Event().wait(0.01)
        reranker.held.go.set()
        assert first.result().status_code == 200
        client.post("/rerank", json={"query": "last", "texts": ["a"]}).raise_for_status()
        assert {query for pairs in reranker.held.seen for query, _ in pairs} == {"first", "last"}


def test_a_failure_of_the_model_is_told_in_the_caller_s_dialect_and_nothing_of_the_text(
    bundled: GLiClassReranker, caplog: pytest.LogCaptureFixture
) -> None:
    reranker = HeldReranker(bundled)
    reranker.held.go.set()
    with Serving(make_app(reranker)) as client:
        tei = client.post("/rerank", json={"query": "q", "texts": ["broken"]})
        cohere = client.post("/v2/rerank", json={"query": "q", "documents": ["broken"]})
    assert tei.status_code == 424 and tei.json()["error_type"] == "backend"
    assert cohere.status_code == 500 and cohere.json()["message"] == "scoring failed."
    assert [record.getMessage() for record in caplog.records].count("scoring failed") == 2  # with their tracebacks


async def begin(batcher: Batcher, held: Held) -> asyncio.Task[list[float]]:
    """A first job that the thread is busy with."""
    task = asyncio.create_task(batcher.score("first", ["x"]))
    await asyncio.to_thread(held.begun.wait, 30)
    return task


def with_batcher(test: Callable[[Batcher, Held], Any], most_waiting: int = 1000, **options: int) -> Held:
    held = Held()
    batcher = Batcher(held, most_waiting=most_waiting, **options)
    try:
        asyncio.run(test(batcher, held))
    finally:
        held.go.set()
        batcher.close()
    return held


def test_what_waits_is_scored_together_up_to_the_batch() -> None:
    async def test(batcher: Batcher, held: Held) -> None:
        first = await begin(batcher, held)
        others = [asyncio.create_task(batcher.score(str(i), ["a", "bb"])) for i in range(5)]
        await asyncio.sleep(0)
        assert batcher.waiting == 10
        held.go.set()
        assert await first == [1.0] and await asyncio.gather(*others) == [[1.0, 2.0]] * 5

    assert [len(pairs) for pairs in with_batcher(test, batch=4).seen] == [1, 4, 4, 2]


def test_what_is_too_much_is_refused_and_what_is_cancelled_is_never_scored() -> None:
    async def test(batcher: Batcher, held: Held) -> None:
        first = await begin(batcher, held)
        dropped, kept = (asyncio.create_task(batcher.score(name, ["a", "b"])) for name in ("dropped", "kept"))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="4 passages are waiting"):
            await batcher.score("more", ["c"])
        dropped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dropped
        assert batcher.waiting == 2  # there is room for others again
        held.go.set()
        await asyncio.gather(first, kept)

    held = with_batcher(test, most_waiting=4)
    assert {query for pairs in held.seen for query, _ in pairs} == {"first", "kept"}


def test_a_long_job_is_scored_in_pieces_until_nobody_waits_for_it() -> None:
    async def test(batcher: Batcher, held: Held) -> None:
        long = asyncio.create_task(batcher.score("long", ["a"] * 5 + ["b" * 9000] + ["c"] * 4))
        await asyncio.to_thread(held.begun.wait, 30)
        held.go.set()
        assert len(await long) == 10
        held.go.clear()
        held.begun.clear()
        left = asyncio.create_task(batcher.score("left", ["a"] * 10))
        await asyncio.to_thread(held.begun.wait, 30)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        held.go.set()
        await batcher.score("last", ["a"])

    seen = with_batcher(test, batch=4).seen
    assert [(pairs[0][0], len(pairs)) for pairs in seen] == [
        ("long", 4),
        ("long", 2),
        ("long", 4),
        ("left", 4),
        ("last", 1),
    ]


def test_poison_hurts_nobody_else() -> None:
    async def test(batcher: Batcher, held: Held) -> None:
        first = await begin(batcher, held)
        jobs = [asyncio.create_task(batcher.score("q", [text])) for text in ("a", "poison", "ccc")]
        failing = asyncio.create_task(batcher.run(lambda: 1 / 0))
        await asyncio.sleep(0)
        held.go.set()
        found = await asyncio.gather(first, *jobs, failing, return_exceptions=True)
        assert found[:2] == [[1.0], [1.0]] and found[3] == [3.0]
        assert isinstance(found[2], ValueError) and isinstance(found[4], ZeroDivisionError)

    with_batcher(test)


def test_closing_finishes_what_was_taken_and_takes_no_more() -> None:
    async def test(batcher: Batcher, held: Held) -> None:
        first = await begin(batcher, held)
        waiting = asyncio.create_task(batcher.score("q", ["aa"]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        while batcher.alive:
            await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            await batcher.score("late", ["a"])
        held.go.set()
        assert await first == [1.0] and await waiting == [2.0]
        await closing

    with_batcher(test)


# The command


@pytest.mark.slow
def test_the_command_serves_and_answers_what_it_took_when_it_is_stopped() -> None:
    body = {"query": QUERY, "texts": ["Leaves turn light into sugar. " * 40] * 200}
    with ServeCommand("--device", "cpu", env={"GLICLASS_API_KEY": "secret"}) as server:
        with (
            httpx.Client(base_url=server.url, headers={"X-API-Key": "secret"}, timeout=60) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            answers = [pool.submit(client.post, "/rerank", json=body) for _ in range(8)]
            while 'status="200"' not in client.get("/metrics").text:
                threading.Event().wait(0.05)
            server.terminate()
            assert [len(answer.result().raise_for_status().json()) for answer in answers] == [200] * 8
        status = server.wait()
    assert status in (0, -signal.SIGTERM)  # uvicorn ends itself by the signal that it was sent
    assert "secret" not in server.log and "Leaves" not in server.log
    assert '"route": "/rerank", "status": 200' in server.log
