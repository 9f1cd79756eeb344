"""Send requests of all forms to the server: none may be answered with a server error, or without JSON.

    python -m benchmarks.fuzz_requests [--requests 10000]

schemathesis makes well and badly formed requests from the server's own description. Writes results/fuzz_requests.json.
"""

from __future__ import annotations

import argparse
import time

from rich.console import Console

from benchmarks.results_file import make_table, print_table, write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import make_app
from gliclass_rerank.serving.limits import Limits
from tests.real_server import Serving
from tests.request_fuzz import send_fuzz


def main() -> None:
    """Send, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    limits = Limits(passages=50, passage_characters=100_000, body_bytes=1_000_000)
    start = time.monotonic()
    with Serving(make_app(GLiClassReranker.from_pretrained(), limits=limits)) as client:
        statuses = send_fuzz(str(client.base_url).rstrip("/"), options.requests)
        client.get("/ready").raise_for_status()
    table = make_table(["status", "requests"], sorted(statuses.items()))
    print_table(table)
    result = {
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "server errors": sum(count for status, count in statuses.items() if status >= 500),
        "seconds": round(time.monotonic() - start, 1),
        "table": table,
    }
    console = Console()
    console.print(f"written to {write_result('fuzz_requests', result)}")


if __name__ == "__main__":
    main()
