"""The HTTP server refuses bad requests in the client's dialect, and survives failures, overload and lost clients."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import make_app
from gliclass_rerank.serving.limits import Limits
from tests.real_server import Serving
from tests.request_fuzz import send_fuzz
from tests.serving_helpers import PASSAGES, QUERY, gate, read_metrics, wait_until

HOSTILE = [
    "",
    "\x00",
    "\ud800",
    "‮evil‬",
    "<<LABEL>> <<SEP>> [SEP] [CLS]",
    "👩‍👩‍👧" * 500,
    "a\u0301" * 4000,
    "word " * 20_000,
    "x" * 99_000,
    "東京" * 3000,
]


@pytest.fixture(scope="module")
def client(bundled: GLiClassReranker) -> Iterator[httpx.Client]:
    limits = Limits(passages=50, passage_characters=150_000, body_bytes=1_000_000, label_characters=10_000)
    with Serving(make_app(bundled, limits=limits)) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": " ", "documents": ["a"]}, "query is ' '"),
        ({"query": "\ue000", "documents": ["a"]}, "no token"),
        ({"query": {"image": "a"}, "documents": ["a"]}, "query has no text"),
        ({"query": "q"}, "either texts, documents or passages"),
        ({"query": "q", "documents": ["a", 3]}, "documents.1"),
        ({"query": "q", "documents": [{"image": "a"}]}, "documents[0] has no text"),
        ({"query": "q", "documents": ["a"], "top_n": -1}, "top_n is -1"),
        ({"query": "q", "documents": ["a"], "top_n": "many"}, "top_n"),
        ({"query": "q", "documents": ["a"], "top_n": 1.5}, "top_n"),
        ({"query": "q", "documents": ["a"], "top_n": True}, "top_n"),
        ({"query": "q", "documents": ["a"], "return_documents": "perhaps"}, "return_documents"),
    ],
)
def test_a_mistake_is_named_for_every_client(body: dict[str, Any], message: str, client: httpx.Client) -> None:
    answer = client.post("/v1/rerank", json=body)
    assert answer.status_code == 400
    error = answer.json()
    assert message in error["message"] == error["detail"] == error["error"]["message"]


def test_tei_s_errors_have_tei_s_fields(client: httpx.Client) -> None:
    answer = client.post("/rerank", json={"query": "", "texts": ["a"]})
    assert answer.status_code == 422 and set(answer.json()) == {"error", "error_type"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[1]", 400),
        (b'{"query": NaN}', 400),
        (b"{" * 100_000, 400),
        (b"[" * 100_000, 400),
        (b'{"query": "q", "documents": ["' + b"a" * 200_000 + b'"]}', 413),
        (b'{"query": "q", "documents": [' + b'"a",' * 60 + b'"a"]}', 413),
        (b" " * 1_100_000, 413),
    ],
)
def test_a_body_that_is_too_large_or_not_json_is_refused(content: bytes, status: int, client: httpx.Client) -> None:
    assert client.post("/v2/rerank", content=content).status_code == status


def test_a_request_that_is_too_large_is_refused_before_its_items_are_checked(client: httpx.Client) -> None:
    answer = client.post("/v2/rerank", json={"query": "q", "documents": [1] * 300_000})
    assert answer.status_code == 413 and "documents has 300000 items, more than 50" in answer.json()["message"]
    labels = {"texts": ["a"] * 50, "labels": ["b"] * 50}
    assert client.post("/v1/classify", json=labels | {"prompt": "p" * 2000}).status_code == 413
    assert client.post("/v1/classify", json=labels | {"labels": ["b" * 2000]}).status_code == 413
    assert client.post("/v1/classify", json=labels | {"labels": ["b" * 1400] * 10}).status_code == 413


def test_a_passage_that_would_hold_the_model_for_long_is_refused(bundled: GLiClassReranker) -> None:
    """A passage is one piece of work, whatever the number of its windows."""
    windows = GLiClassReranker(bundled.engine.model, replace(bundled.options, long_passages="windows"))
    body = {"query": QUERY, "documents": [PASSAGES[0], "word " * 10_001]}
    with Serving(make_app(windows)) as client:
        answer = client.post("/v2/rerank", json=body)
        assert (
            answer.status_code == 413 and "passage 1 has 50005 characters, more than 50000" in answer.json()["message"]
        )
        assert client.post("/v1/classify", json={"texts": body["documents"], "labels": ["a"]}).status_code == 200
    with Serving(make_app(bundled)) as client:
        assert client.post("/v2/rerank", json=body).status_code == 200  # it is cut


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["query", "texts", "documents", "passages", "top_n", "text", "labels"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_no_body_is_answered_with_a_server_error(client: httpx.Client, body: Any) -> None:
    for path in ("/rerank", "/v2/rerank", "/v1/ranking", "/v1/classify"):
        assert client.post(path, content=json.dumps(body)).status_code < 500


@pytest.mark.slow
def test_no_request_that_a_fuzzer_makes_is_answered_with_a_server_error(client: httpx.Client) -> None:
    assert send_fuzz(str(client.base_url).rstrip("/"), 400).keys() >= {200, 400, 422}


@pytest.mark.parametrize("path", ["/rerank", "/v2/rerank"])
def test_hostile_passages_get_scores_in_their_places(path: str, client: httpx.Client) -> None:
    body = {"query": QUERY, "texts" if path == "/rerank" else "documents": HOSTILE}
    answer = client.post(path, content=json.dumps(body)).raise_for_status().json()
    hits = answer if path == "/rerank" else answer["results"]
    scores = [hit.get("score", hit.get("relevance_score")) for hit in hits]
    assert sorted(hit["index"] for hit in hits) == list(range(len(HOSTILE)))
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)


def test_a_server_with_a_key_asks_for_it(bundled: GLiClassReranker) -> None:
    with Serving(make_app(bundled, api_key="geheim ü")) as client:
        body = {"query": QUERY, "texts": PASSAGES}
        wrong: dict[str, str]
        for wrong in ({}, {"Authorization": "Bearer no"}, {"X-API-Key": "geheim"}):
            assert client.post("/rerank", json=body, headers=wrong).status_code == 401
        right: dict[str, bytes]
        for right in ({"Authorization": "bearer geheim ü".encode()}, {"X-API-Key": "geheim ü".encode()}):
            assert client.post("/rerank", json=body, headers=right).status_code == 200
            assert client.get("/docs", headers=right).status_code == 200
        for path in ("/docs", "/openapi.json"):
            assert client.get(path).status_code == 401
        assert client.post("/v1/classify", json={"texts": [], "labels": []}).status_code == 401
        assert client.get("/health").status_code == 200


def test_an_empty_key_is_refused(bundled: GLiClassReranker) -> None:
    with pytest.raises(ValueError, match="api_key is empty"):
        make_app(bundled, api_key=" ")


def test_an_overloaded_server_says_when_to_try_again(bundled: GLiClassReranker) -> None:
    reranker, engine = gate(bundled)
    with Serving(make_app(reranker, limits=Limits(waiting=4))) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/rerank", json={"query": "first", "texts": ["a"]})
        assert engine.entered.wait(30)
        second = pool.submit(client.post, "/rerank", json={"query": "second", "texts": ["a", "b", "c"]})
        wait_until(lambda: read_metrics(client)["gliclass_waiting_passages"] == 3)
        refused = client.post("/rerank", json={"query": "third", "texts": ["a", "b"]})
        long = client.post("/v2/rerank", json={"query": "third", "documents": ["a" * 8000]})  # takes three places
        assert [refused.status_code, long.status_code] == [429, 429]
        assert refused.json()["error_type"] == "overloaded" and refused.headers["Retry-After"] == "1"
        engine.gate.set()
        assert [first.result().status_code, second.result().status_code] == [200, 200]


def test_a_request_that_takes_too_long_is_given_up(bundled: GLiClassReranker) -> None:
    reranker, engine = gate(bundled)
    with Serving(make_app(reranker, limits=Limits(seconds=0.2))) as client:
        answer = client.post("/v2/rerank", json={"query": "first", "documents": ["a"]})
        assert answer.status_code == 503 and answer.json()["error"]["type"] == "timeout"
        assert client.get("/ready").status_code == 503 and client.get("/health").status_code == 200
        engine.gate.set()
        assert client.post("/v2/rerank", json={"query": "again", "documents": ["a"]}).status_code == 200


def test_the_passages_of_a_client_that_left_are_not_scored(bundled: GLiClassReranker) -> None:
    reranker, engine = gate(bundled)
    with Serving(make_app(reranker)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/rerank", json={"query": "first", "texts": ["a"]})
        assert engine.entered.wait(30)
        for truncate in (True, False):
            body = {"query": "left", "texts": ["a"], "truncate": truncate}
            with pytest.raises(httpx.ReadTimeout):
                client.post("/rerank", json=body, timeout=0.2)
        gone = 'gliclass_requests_total{route="/rerank",status="499"}'
        wait_until(lambda: read_metrics(client).get(gone) == 2)
        engine.gate.set()
        assert first.result().status_code == 200
        client.post("/rerank", json={"query": "last", "texts": ["a"]}).raise_for_status()
    assert engine.queries == {"first", "last"}


def test_classify_gives_up_its_place_when_its_client_leaves(bundled: GLiClassReranker) -> None:
    """200 texts of 100 labels would hold the model for minutes."""
    labels = [f"a label of some words, which takes its room in the prompt, number {i}" for i in range(100)]
    body = {"texts": [f"text {i} " * 100 for i in range(200)], "labels": labels}
    with Serving(make_app(bundled)) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/classify", json=body, timeout=0.5)
        client.post("/rerank", json={"query": QUERY, "texts": PASSAGES}).raise_for_status()
        wait_until(lambda: read_metrics(client)["gliclass_waiting_passages"] == 0)
        assert read_metrics(client)["gliclass_passages_total"] < 200


def test_a_failure_of_the_model_is_reported_without_the_text(
    bundled: GLiClassReranker, caplog: pytest.LogCaptureFixture
) -> None:
    reranker, engine = gate(bundled)
    engine.gate.set()
    caplog.set_level(logging.INFO)
    with Serving(make_app(reranker)) as client:
        tei = client.post("/rerank", json={"query": "q", "texts": ["broken"]})
        cohere = client.post("/v2/rerank", json={"query": "q", "documents": ["broken"]})
    assert tei.status_code == 424 and tei.json()["error_type"] == "backend"
    assert cohere.status_code == 500 and cohere.json()["message"] == "scoring failed."
    assert [record.getMessage() for record in caplog.records].count("scoring failed") == 2  # with their tracebacks


def test_a_panic_over_one_request_fails_that_request_only(bundled: GLiClassReranker) -> None:
    reranker, engine = gate(bundled)
    engine.gate.set()
    with Serving(make_app(reranker)) as client:
        assert client.post("/v2/rerank", json={"query": "q", "documents": ["panic"]}).status_code == 500
        assert client.get("/health").status_code == 200
        assert client.post("/v2/rerank", json={"query": "q", "documents": ["fine"]}).status_code == 200
