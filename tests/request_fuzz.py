"""Requests that schemathesis makes from the server's own description, for tests and benchmarks."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROUTES = ("/rerank", "/v1/rerank", "/v2/rerank", "/v1/ranking", "/v1/classify")


def send_fuzz(url: str, requests: int) -> Counter[int]:
    """Send well and badly formed requests to the routes that take a body.

    Args:
        url: The server's base URL.
        requests: How many requests to send.

    Returns:
        How often each status came back.

    Raises:
        AssertionError: A request was answered with a server error, or without JSON.
    """
    import schemathesis

    statuses: Counter[int] = Counter()
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [schema[path]["post"] for path in ROUTES]
    for operation in operations:
        cases = st.one_of(*map(operation.as_strategy, schemathesis.GenerationMode))

        # No example is saved or shrunk: the number of requests is what counts.
        @settings(
            max_examples=-(-requests // len(operations)),
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(cases)
        def send(case: object) -> None:
            response = case.call(base_url=url)
            statuses[response.status_code] += 1
            assert response.status_code < 500 and response.json() is not None, response.text

        send()
    return statuses
