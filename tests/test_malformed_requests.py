"""Requests that a fuzzer makes from the application's own description: none of them breaks it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import Limits, make_app
from benchmarks.real_server import Serving

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
def client(embedded: GLiClassReranker) -> Iterator[httpx.Client]:
    limits = Limits(passages=50, passage_characters=100_000, body_bytes=1_000_000)
    with Serving(make_app(embedded, limits=limits)) as client:
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
    assert fuzz(str(client.base_url).rstrip("/"), 100).keys() >= {200, 400, 422}


def fuzz(url: str, requests_per_route: int) -> Counter[int]:
    """Send requests, well and badly formed ones, to each route that takes a body; how often each status came back."""
    statuses: Counter[int] = Counter()
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        if operation.method != "post":
            continue
        cases = st.one_of(*map(operation.as_strategy, (GenerationMode.NEGATIVE, GenerationMode.POSITIVE)))

        @settings(
            max_examples=requests_per_route,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(cases)
        def send(case: schemathesis.Case) -> None:
            response = case.call(base_url=url)
            assert response.status_code < 500 and response.json() is not None, response.text
            statuses[response.status_code] += 1

        send()
    return statuses
