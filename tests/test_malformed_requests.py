"""Requests that a fuzzer makes from the application's own description: none of them breaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.faults import send_fuzz
from benchmarks.real_server import Serving
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import Limits, make_app

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
    limits = Limits(passages=50, passage_characters=100_000, body_bytes=1_000_000)
    with Serving(make_app(bundled, limits=limits)) as client:
        yield client


@pytest.mark.parametrize("path", ["/rerank", "/v2/rerank"])
def test_hostile_passages_get_scores_in_their_places(path: str, client: httpx.Client) -> None:
    body = {"query": "How do plants make sugar?", "texts" if path == "/rerank" else "documents": HOSTILE}
    answer = client.post(path, content=json.dumps(body)).raise_for_status().json()
    found = answer if path == "/rerank" else answer["results"]
    scores = [hit.get("score", hit.get("relevance_score")) for hit in found]
    assert sorted(hit["index"] for hit in found) == list(range(len(HOSTILE)))
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)


@pytest.mark.slow
def test_no_request_that_a_fuzzer_makes_breaks_it(client: httpx.Client) -> None:
    assert send_fuzz(str(client.base_url).rstrip("/"), 400).keys() >= {200, 400, 422}
