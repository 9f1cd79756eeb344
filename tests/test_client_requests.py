"""Requests exactly as RAG applications send them, read the way they read the answers.

Clients that can be installed are in test_clients.py. These applications cannot, so each test states its request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import make_app
from tests.real_server import Serving
from tests.serving_helpers import PASSAGES, QUERY

KEY = "the server's key"
COUNT = len(PASSAGES)


@pytest.fixture(scope="module")
def client(bundled: GLiClassReranker) -> Iterator[httpx.Client]:
    with Serving(make_app(bundled, api_key=KEY)) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


@pytest.fixture(scope="module")
def expected(bundled: GLiClassReranker) -> dict[int, float]:
    return dict(enumerate(bundled.score(QUERY, PASSAGES)))


def ask(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    url = f"{str(client.base_url).rstrip('/')}{path}"  # as the client joins it, slashes included
    return client.post(url, json=body).raise_for_status().json()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param("/v1/rerank", {"top_n": COUNT}, id="RAGFlow, Jina"),
        pytest.param("/v1/rerank", {"return_documents": "true", "return_len": "true"}, id="RAGFlow, Xinference"),
        pytest.param(
            "/v1/rerank",
            {"top_n": str(COUNT), "return_documents": "true", "return_len": "true"},
            id="RAGFlow, Xinference with text for numbers",
        ),
        pytest.param("/rerank", {"top_n": float(COUNT)}, id="RAGFlow, LocalAI and OpenAI-compatible"),
        pytest.param(
            "/v1/rerank",
            {"top_n": COUNT, "return_documents": False, "max_chunks_per_doc": 1024, "overlap_tokens": 80},
            id="RAGFlow, SiliconFlow",
        ),
        pytest.param("/v1/rerank", {"top_n": COUNT, "return_documents": True}, id="Dify, OpenAI-compatible"),
        pytest.param("/v1/rerank", {"top_n": COUNT}, id="open-webui"),
        pytest.param("/v1/rerank", {}, id="FastGPT"),
        pytest.param("/v1/rerank", {"top_n": COUNT, "return_documents": True}, id="LibreChat, Jina"),
        pytest.param("/v1/rerank", {"top_n": COUNT, "return_documents": False}, id="LightRAG, Jina"),
        pytest.param("/v2/rerank", {"top_n": COUNT}, id="LightRAG, Cohere"),
        pytest.param("/rerank", {"top_n": COUNT, "return_documents": True}, id="LiteLLM, Infinity"),
        pytest.param("/v1/rerank", {"top_n": 0}, id="new-api, without a number of results"),
        pytest.param(
            "/v1/rerank",
            {"top_n": COUNT, "return_documents": True, "max_chunks_per_doc": 0, "overlap_tokens": 0},
            id="new-api",
        ),
        pytest.param(
            "/v1/rerank",
            {"top_n": None, "max_chunks_per_doc": None, "return_documents": None, "return_len": None},
            id="Xinference's own client",
        ),
        pytest.param("/v1/rerank", {"top_n": 3, "max_chunks_per_doc": 10}, id="Cohere v1"),
    ],
)
def test_documents_in_the_shared_dialect(
    path: str, fields: dict[str, Any], client: httpx.Client, expected: dict[int, float]
) -> None:
    answer = ask(client, path, {"model": "any", "query": QUERY, "documents": PASSAGES, **fields})
    scores = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert scores == pytest.approx(expected, abs=1e-5)
    assert answer["usage"]["total_tokens"] > 0
    assert answer["meta"]["tokens"]["input_tokens"] + answer["meta"]["tokens"]["output_tokens"] > 0
    returns_passages = fields.get("return_documents") in (True, "true")
    assert all(
        result["document"]["text"] == PASSAGES[result["index"]] for result in answer["results"] if returns_passages
    )


def test_dify_s_jina_client_sends_objects(client: httpx.Client, expected: dict[int, float]) -> None:
    body = {
        "model": "any",
        "query": {"text": QUERY},
        "documents": [{"text": passage} for passage in PASSAGES],
        "top_n": COUNT,
        "return_documents": True,
    }
    results = ask(client, "/v1/rerank", body)["results"]
    assert {result["index"]: result["relevance_score"] for result in results} == pytest.approx(expected, abs=1e-5)
    assert all(result["document"]["text"] == PASSAGES[result["index"]] for result in results)


def test_dify_s_tei_client_reads_info_before_it_ranks(client: httpx.Client, expected: dict[int, float]) -> None:
    info = client.get("/info").json()
    assert list(info["model_type"]) == ["reranker"]
    assert info["max_input_length"] == 512 and info["max_client_batch_size"] >= COUNT
    hits = ask(client, "/rerank", {"query": QUERY, "texts": PASSAGES})
    assert {hit["index"]: hit["score"] for hit in hits} == pytest.approx(expected, abs=1e-5)


def test_ragflow_s_tei_client(client: httpx.Client, expected: dict[int, float]) -> None:
    hits = ask(client, "/rerank", {"query": QUERY, "texts": PASSAGES, "raw_scores": False, "truncate": True})
    assert {hit["index"]: hit["score"] for hit in hits} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/v1/ranking", id="NIM, and LiteLLM"),
        pytest.param("/v1/retrieval/nvidia/reranking", id="RAGFlow"),
        pytest.param("/v1/retrieval/nvidia/llama-3.2-nv-rerankqa-1b-v2/reranking", id="the hosted API"),
    ],
)
def test_nvidia_s_dialect(path: str, client: httpx.Client, bundled: GLiClassReranker) -> None:
    body = {
        "model": "any",
        "query": {"text": QUERY},
        "passages": [{"text": passage} for passage in PASSAGES],
        "truncate": "END",
        "top_n": 2,
    }
    rankings = ask(client, path, body)["rankings"]
    expected = [(hit.index, pytest.approx(hit.logit, abs=1e-4)) for hit in bundled.rank(QUERY, PASSAGES, top_k=2)]
    assert [(ranking["index"], ranking["logit"]) for ranking in rankings] == expected


def test_nvidia_s_clients_can_refuse_a_passage_that_would_be_cut(client: httpx.Client) -> None:
    body = {"query": {"text": QUERY}, "passages": [{"text": "sugar " * 1000}]}
    assert client.post("/v1/ranking", json=body).json()["rankings"][0]["truncated"]
    assert client.post("/v1/ranking", json={**body, "truncate": "NONE"}).status_code == 400


def test_clients_that_list_the_models_see_one(client: httpx.Client, bundled: GLiClassReranker) -> None:
    models = client.get("/v1/models").raise_for_status().json()
    assert [model["id"] for model in models["data"]] == [bundled.name] and models["object"] == "list"
