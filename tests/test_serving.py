"""The routes of the HTTP server: what it answers to well-formed requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker, ZeroShotClassifier
from gliclass_rerank.engine.passages import PassageLogits
from gliclass_rerank.serving.app import make_app
from gliclass_rerank.serving.dialects import RerankBody, read_rerank, write_rerank
from gliclass_rerank.serving.paths import normalize_path
from tests.real_server import Serving
from tests.serving_helpers import PASSAGES, QUERY, read_metrics


@pytest.fixture(scope="module")
def client(bundled: GLiClassReranker) -> Iterator[httpx.Client]:
    with Serving(make_app(bundled, cors_origins=["https://example.com"])) as client:
        yield client


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


def test_rank_fields_say_which_fields_of_a_document_are_read(client: httpx.Client, bundled: GLiClassReranker) -> None:
    documents = [{"title": "Sugar", "body": passage, "text": "something else"} for passage in PASSAGES]
    body = {"query": QUERY, "documents": documents, "rank_fields": ["title", "body"]}
    results = client.post("/v1/rerank", json=body).raise_for_status().json()["results"]
    expected = bundled.score(QUERY, [f"Sugar\n{passage}" for passage in PASSAGES])
    assert {r["index"]: r["relevance_score"] for r in results} == pytest.approx(dict(enumerate(expected)), abs=1e-5)


def test_texts_are_answered_as_tei_does(client: httpx.Client, bundled: GLiClassReranker) -> None:
    body = {"query": QUERY, "texts": PASSAGES, "truncate": None}
    hits = client.post("/rerank", json=body).raise_for_status().json()
    expected = dict(enumerate(bundled.score(QUERY, PASSAGES)))
    assert {hit["index"]: hit["score"] for hit in hits} == pytest.approx(expected, abs=1e-5)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert "text" not in hits[0]


def test_tei_s_raw_scores_are_the_model_s_logits(client: httpx.Client, bundled: GLiClassReranker) -> None:
    body = {"query": QUERY, "texts": PASSAGES, "raw_scores": True, "return_text": True}
    hits = client.post("/rerank", json=body).raise_for_status().json()
    expected = [(hit.index, pytest.approx(hit.logit, abs=1e-4)) for hit in bundled.rank(QUERY, PASSAGES)]
    assert [(hit["index"], hit["score"]) for hit in hits] == expected
    assert all(hit["text"] == PASSAGES[hit["index"]] for hit in hits)


def test_logits_whose_scores_round_to_1_keep_their_order() -> None:
    request = read_rerank(RerankBody(query="q", texts=["a", "b", "c"], raw_scores=True), "/rerank")
    results = [PassageLogits((logit,), (), None, False) for logit in (40.0, 42.0, 41.0)]
    hits = write_rerank(request, results, model="m", max_length=512)
    assert [hit["score"] for hit in hits] == [42.0, 41.0, 40.0]


def test_tei_can_refuse_a_passage_that_would_be_cut(client: httpx.Client) -> None:
    body = {"query": QUERY, "texts": [*PASSAGES, "sugar " * 1000]}
    assert len(client.post("/rerank", json=body).raise_for_status().json()) == 4
    refused = client.post("/rerank", json={**body, "truncate": False})
    assert refused.status_code == 422 and "passage 3 does not fit into 512 tokens" in refused.json()["error"]
    fitting = {"query": QUERY, "texts": PASSAGES}
    answers = [client.post("/rerank", json={**fitting, "truncate": truncate}).json() for truncate in (True, False)]
    assert answers[0] == answers[1]


def test_a_cut_passage_is_reported_and_others_are_not(client: httpx.Client) -> None:
    passages = [*PASSAGES, "sugar " * 1000]
    answer = client.post("/v2/rerank", json={"query": QUERY, "documents": passages}).raise_for_status().json()
    assert {r["index"] for r in answer["results"] if r.get("truncated")} == {3}
    assert answer["meta"]["warnings"] == ["1 of 4 passages or their query were cut to 512 tokens."]
    tei = client.post("/rerank", json={"query": QUERY, "texts": passages}).json()
    assert {hit["index"] for hit in tei if "truncated" in hit} == {3}
    uncut = client.post("/v2/rerank", json={"query": QUERY, "documents": PASSAGES}).json()
    assert "warnings" not in uncut["meta"] and not any("truncated" in result for result in uncut["results"])


def test_a_query_that_does_not_fit_is_cut_and_reported(client: httpx.Client) -> None:
    query = "sugar " * 900
    hits = client.post("/rerank", json={"query": query, "texts": PASSAGES}).raise_for_status().json()
    assert len(hits) == 3 and all(hit["truncated"] for hit in hits)
    refused = client.post("/rerank", json={"query": query, "texts": PASSAGES, "truncate": False})
    assert refused.status_code == 422


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_top_n_0_means_all(path: str, client: httpx.Client) -> None:
    body = {"query": QUERY, "documents": PASSAGES, "top_n": 0}
    assert len(client.post(path, json=body).raise_for_status().json()["results"]) == 3


@given(st.lists(st.floats(-50, 50), max_size=8), st.none() | st.integers(0, 9))
def test_results_are_sorted_and_equal_ones_keep_their_order(logits: list[float], top_n: int | None) -> None:
    request = read_rerank(RerankBody(query="q", documents=[""] * len(logits), top_n=top_n), "/v2/rerank")
    results = [PassageLogits((logit,), (), None, False) for logit in logits]
    hits = write_rerank(request, results, model="m", max_length=512)["results"]
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    assert [hit["index"] for hit in hits] == order[: top_n or None]


@pytest.mark.parametrize("body", [{"documents": ["\ud800 a"]}, {"texts": ["\ud800 a"], "return_text": True}])
def test_a_lone_surrogate_comes_back_as_it_was(body: dict[str, Any], client: httpx.Client) -> None:
    answer = client.post("/rerank", content=json.dumps({"query": QUERY, **body})).raise_for_status()
    assert "\\ud800 a" in answer.text


def test_requests_that_share_batches_get_the_scores_that_they_get_alone(
    client: httpx.Client, bundled: GLiClassReranker
) -> None:
    queries = [f"{QUERY} {i}" for i in range(16)]

    def ask(query: str) -> dict[int, float]:
        hits = client.post("/rerank", json={"query": query, "texts": PASSAGES}).raise_for_status().json()
        return {hit["index"]: hit["score"] for hit in hits}

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, queries))
    for query, scores in zip(queries, answers, strict=True):
        assert scores == pytest.approx(dict(enumerate(bundled.score(query, PASSAGES))), abs=1e-5)


@pytest.mark.parametrize("single_label", [True, False])
@pytest.mark.parametrize("copies", [1, 60])  # one prompt, and several that share the labels out
def test_labels_are_scored_as_the_classifier_does(
    copies: int, single_label: bool, client: httpx.Client, bundled: GLiClassReranker
) -> None:
    texts = ["The match ended in a draw.", "Stir the soup. " * 60, ""]
    labels = [f"{label} number {i}" for i in range(copies) for label in ("sports and games", "cooking and eating")]
    body = {"texts": texts, "labels": labels, "single_label": single_label, "prompt": "Topic: ", "threshold": 0}
    results = client.post("/v1/classify", json=body).raise_for_status().json()["results"]
    kind = "single-label" if single_label else "multi-label"
    classifier = ZeroShotClassifier(bundled.engine.model, bundled.options)
    expected = classifier(texts, labels, 0.0, kind, prompt="Topic: ")
    assert [[p["label"] for p in row] for row in results] == [[p["label"] for p in row] for row in expected]
    scores, expected_scores = ([p["score"] for row in rows for p in row] for rows in (results, expected))
    assert scores == pytest.approx(expected_scores, abs=1e-5)


def test_a_text_that_is_cut_is_reported_by_classify(client: httpx.Client) -> None:
    body = {"texts": ["short", "long " * 1000], "labels": ["sports"]}
    assert client.post("/v1/classify", json=body).raise_for_status().json()["truncated"] == [1]


def test_an_operator_sees_health_model_and_counters(client: httpx.Client) -> None:
    client.post("/rerank", json={"query": QUERY, "texts": PASSAGES})
    assert client.get("/health").json() == {"status": "ok"} and client.get("/ready").json() == {"status": "ready"}
    info = client.get("/info").json()
    assert info["max_length"] == 512 and info["device"] == "cpu"
    metrics = read_metrics(client)
    assert metrics['gliclass_requests_total{route="/rerank",status="200"}'] >= 1
    assert metrics["gliclass_waiting_passages"] == 0


def test_head_is_answered_like_get_without_a_body(client: httpx.Client) -> None:
    answer = client.head("/health")
    assert answer.status_code == 200 and answer.content == b""


@pytest.mark.parametrize("path", ["/v1/rerank/", "//v1/rerank", "/v1/v1/rerank", "/v1/v2/rerank", "/v2//rerank/"])
def test_paths_that_clients_make_of_a_base_url_are_accepted(path: str, client: httpx.Client) -> None:
    url = f"{str(client.base_url).rstrip('/')}{path}"
    body = {"query": QUERY, "documents": PASSAGES}
    assert client.post(url, json=body).status_code == 200


@given(st.text(alphabet="/v12rerank", max_size=20))
def test_a_normalized_path_stays_the_same(path: str) -> None:
    assert normalize_path(normalize_path(f"/{path}")) == normalize_path(f"/{path}")


def test_browsers_may_call_it_from_allowed_origins_only(client: httpx.Client, bundled: GLiClassReranker) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = client.options("/v1/rerank", headers={"Origin": "https://example.com", **preflight})
    assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == "https://example.com"
    assert client.options("/v1/rerank", headers={"Origin": "https://other.com", **preflight}).status_code == 400
    with Serving(make_app(bundled)) as strict:
        answer = strict.get("/health", headers={"Origin": "https://example.com"})
        assert "access-control-allow-origin" not in answer.headers


def test_the_description_of_the_api_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs").raise_for_status().text
    assert "/v1/rerank" in page and "//" not in page.replace("<!doctype", "")
    assert "/v1/rerank" in client.get("/openapi.json").raise_for_status().json()["paths"]
