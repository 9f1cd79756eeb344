"""The server's overhead and fairness: throughput with many connections, one client's time, a small client's time.

    python -m benchmarks.load [--connections 200] [--seconds 60] [--requests 40] [--model FOLDER]

The server runs in its own process, on the same cores as the clients. Requests have 20 fresh passages of 180 tokens on
average. Four measurements, one after the other:

1. One client sends requests, and this process scores the same passages itself, in turn.
2. This process scores for a third of the time.
3. All connections send requests for all of the time. A refused request (429) is sent again when the server says.
4. Three large clients send 2,000 short passages again and again, first alone, then beside a small client with 10.

Prints a table and writes results/load.json.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import httpx
from rich.console import Console

from benchmarks.results_file import make_table, print_table, write_result
from benchmarks.speed import make_draw
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.checkpoint import load_checkpoint
from tests.real_server import ServeCommand

PASSAGES, TOKENS = 20, 180
LARGE_CLIENTS, LARGE_PASSAGES, LARGE_TOKENS = 3, 2000, 30
SMALL_PASSAGES, SMALL_REQUESTS = 10, 40
PAUSE = 1.0  # seconds between the small client's requests, which then use little of the model
TIMEOUT = 300  # seconds
Draw = Callable[[], tuple[str, list[str]]]


def one_client(url: str, reranker: GLiClassReranker, draw: Draw, requests: int) -> dict[str, float]:
    """Median milliseconds of a request, and of the same in this process."""
    times: dict[str, list[float]] = {"server": [], "in process": []}
    with httpx.Client(timeout=TIMEOUT) as client:
        for number in progress(range(requests), "one client"):
            query, passages = draw()
            body = {"query": query, "texts": passages}

            def ask(body: dict[str, Any] = body) -> None:
                client.post(f"{url}/rerank", json=body).raise_for_status()

            def score(query: str = query, passages: list[str] = passages) -> None:
                reranker.score(query, passages)

            ways: list[tuple[str, Callable[[], None]]] = [("server", ask), ("in process", score)]
            for name, way in ways if number % 2 else reversed(ways):
                start = perf_counter()
                way()
                times[name].append(1000 * (perf_counter() - start))
    return {name: round(median(values), 1) for name, values in times.items()}


def score_alone(reranker: GLiClassReranker, draw: Draw, seconds: float) -> float:
    """Passages per second of the scorer in this process, request after request."""
    done, spent = 0, 0.0
    while spent < seconds:
        query, passages = draw()
        start = perf_counter()
        reranker.score(query, passages)
        spent += perf_counter() - start
        done += len(passages)
    return done / spent


async def many_clients(url: str, draw: Draw, connections: int, seconds: float) -> dict[str, Any]:
    """The statuses of requests from many connections, and passages per second until the last answer."""
    statuses: Counter[str] = Counter()
    times: list[float] = []

    def draw_body() -> dict[str, Any]:
        query, passages = draw()
        return {"query": query, "texts": passages}

    # Drawing takes time, so most bodies are drawn before the clock starts.
    bodies = [draw_body() for _ in range(connections + int(10 * seconds))]

    async def ask_until(client: httpx.AsyncClient, end: float) -> None:
        while perf_counter() < end:
            body = bodies.pop() if bodies else draw_body()
            start = perf_counter()
            while True:
                try:
                    answer = await client.post(f"{url}/rerank", json=body)
                except httpx.HTTPError as error:
                    statuses[type(error).__name__] += 1
                    break
                statuses[str(answer.status_code)] += 1
                if answer.status_code != 429:
                    break
                await asyncio.sleep(float(answer.headers["Retry-After"]))
            times.append(perf_counter() - start)

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits) as client:
        start = perf_counter()
        await asyncio.gather(*(ask_until(client, start + seconds) for _ in range(connections)))
        spent = perf_counter() - start
    return {
        "statuses": dict(statuses),
        "passages a second": statuses["200"] * PASSAGES / spent,
        "seconds until the last answer": spent,
        "median seconds of a request": median(times),
    }


def small_client(url: str, draw: Draw, requests: int, statuses: Counter[str]) -> list[float]:
    """Seconds of each request with few passages."""
    times = []
    with httpx.Client(timeout=TIMEOUT) as client:
        for _ in range(requests):
            query, passages = draw()
            start = perf_counter()
            answer = client.post(f"{url}/rerank", json={"query": query, "texts": passages})
            times.append(perf_counter() - start)
            statuses[str(answer.status_code)] += 1
    return times


def large_clients(url: str, draw: Draw, stop: threading.Event, statuses: Counter[str]) -> float:
    """Passages per second that ``LARGE_CLIENTS`` get scored until they are stopped and have their last answers."""

    def send(_: int) -> int:
        scored = 0
        with httpx.Client(timeout=TIMEOUT) as client:
            while not stop.is_set():
                query, passages = draw()
                answer = client.post(f"{url}/rerank", json={"query": query, "texts": passages})
                statuses[str(answer.status_code)] += 1
                if answer.status_code == 200:
                    scored += len(passages)
                else:
                    stop.wait(float(answer.headers.get("Retry-After", 1)))
        return scored

    start = perf_counter()
    with ThreadPoolExecutor(LARGE_CLIENTS) as pool:
        scored = sum(pool.map(send, range(LARGE_CLIENTS)))
    return scored / (perf_counter() - start)


def fairness(url: str, draw_small: Draw, draw_large: Draw, seconds: float) -> dict[str, Any]:
    """What large clients cost a small one, and the other way round."""
    small_statuses: Counter[str] = Counter()
    alone = small_client(url, draw_small, SMALL_REQUESTS, small_statuses)
    rates, beside = [], []
    large_statuses: Counter[str] = Counter()
    for has_small_client in (False, True):
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            rate = pool.submit(large_clients, url, draw_large, stop, large_statuses)
            end = perf_counter() + seconds
            while perf_counter() < end:
                if has_small_client:
                    beside += small_client(url, draw_small, 1, small_statuses)
                stop.wait(PAUSE)
            stop.set()
            rates.append(rate.result())
    p95_alone, p95_beside = quantiles(alone, n=20)[-1], quantiles(beside, n=20)[-1]
    return {
        "small client alone, p95 seconds": p95_alone,
        "small client beside large ones, p95 seconds": p95_beside,
        "times as long": p95_beside / p95_alone,
        "small client's statuses": dict(small_statuses),
        "large clients' statuses": dict(large_statuses),
        "large clients alone, passages a second": rates[0],
        "large clients beside a small one, passages a second": rates[1],
        "share that large clients lose": 1 - rates[1] / rates[0],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=40, help="requests of the one client")
    parser.add_argument("--model", help="hub name or folder; default: the bundled model")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained(options.model)
    tokenizer = load_checkpoint(options.model).tokenizer
    draw = make_draw(tokenizer, PASSAGES, TOKENS)
    draw_small = make_draw(tokenizer, SMALL_PASSAGES, LARGE_TOKENS)
    draw_large = make_draw(tokenizer, LARGE_PASSAGES, LARGE_TOKENS)
    reranker.score(*draw())
    with ServeCommand(*(["--model", options.model] if options.model else [])) as server:
        milliseconds = one_client(server.url, reranker, draw, options.requests)
        scorer_rate = score_alone(reranker, draw, options.seconds / 3)
        fair = fairness(server.url, draw_small, draw_large, options.seconds)
        loaded = asyncio.run(many_clients(server.url, draw, options.connections, options.seconds))
    share = loaded["passages a second"] / scorer_rate
    rows: list[list[object]] = [
        ["one client, median milliseconds of a request", milliseconds["in process"], milliseconds["server"]],
        [
            f"{options.connections} connections, passages a second",
            f"{scorer_rate:.0f}",
            f"{loaded['passages a second']:.0f} ({share:.0%})",
        ],
    ]
    table = make_table(["", "in process", "server"], rows)
    print_table(table)
    console = Console()
    console.print(fair)
    console.print(f"{options.connections} connections: {loaded['statuses']}")
    result = {
        "table": table,
        "model": reranker.name,
        "passages of a request": PASSAGES,
        "tokens of a passage": TOKENS,
        "connections": options.connections,
        "one client, milliseconds": milliseconds,
        "scorer alone, passages a second": scorer_rate,
        "share of the scorer's rate": share,
        "fairness": fair,
        **loaded,
    }
    console.print(f"written to {write_result('load', result)}")


if __name__ == "__main__":
    main()
