"""What the server costs beside the scorer alone: throughput with many connections, and one client's time.

    python -m benchmarks.load [--connections 200] [--seconds 60] [--requests 40] [--model FOLDER]

The server runs in a process of its own, on this machine's cores like the clients. Requests have 20 fresh
passages of 180 tokens on average. First one client asks, and the same passages are scored in this process,
in turn. Then the scorer works alone for a third of the time, and at last all connections ask for all of it;
a request that is refused (429) is sent again when the server says. Prints a table and writes results/load.json.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.results_file import write_result
from benchmarks.speed import make_draw
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.data.progress import progress
from gliclass_rerank.engine.checkpoint import load_checkpoint
from tests.real_server import ServeCommand

PASSAGES, TOKENS = 20, 180
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


def alone(reranker: GLiClassReranker, draw: Draw, seconds: float) -> float:
    """Passages a second of the scorer, one request's after another."""
    done, spent = 0, 0.0
    while spent < seconds:
        query, passages = draw()
        start = perf_counter()
        reranker.score(query, passages)
        spent += perf_counter() - start
        done += len(passages)
    return done / spent


async def many_clients(url: str, draw: Draw, connections: int, seconds: float) -> dict[str, Any]:
    """What becomes of requests from many connections, and passages a second until the last answer."""
    statuses: Counter[str] = Counter()
    times: list[float] = []

    def draw_body() -> dict[str, Any]:
        query, passages = draw()
        return {"query": query, "texts": passages}

    # Enough for twice the speed of the scorer on such a machine; more are drawn on the way should they not do.
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


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=40, help="of the one client")
    parser.add_argument("--model", help="hub name or folder; the bundled model without it")
    options = parser.parse_args()
    reranker = GLiClassReranker.from_pretrained(options.model)
    draw = make_draw(load_checkpoint(options.model).tokenizer, PASSAGES, TOKENS)
    reranker.score(*draw())
    with ServeCommand(*(["--model", options.model] if options.model else [])) as server:
        milliseconds = one_client(server.url, reranker, draw, options.requests)
        of_scorer = alone(reranker, draw, options.seconds / 3)
        loaded = asyncio.run(many_clients(server.url, draw, options.connections, options.seconds))
    share = loaded["passages a second"] / of_scorer
    table = Table("", "in process", "server", box=None)
    table.add_row("one client, ms", str(milliseconds["in process"]), str(milliseconds["server"]))
    table.add_row("passages a second", f"{of_scorer:.0f}", f"{loaded['passages a second']:.0f} ({share:.0%})")
    console = Console()
    console.print(table)
    console.print(f"{options.connections} connections: {loaded['statuses']}")
    result = {
        "model": reranker.name,
        "passages of a request": PASSAGES,
        "tokens of a passage": TOKENS,
        "connections": options.connections,
        "one client, milliseconds": milliseconds,
        "scorer alone, passages a second": of_scorer,
        "share of it": share,
        **loaded,
    }
    console.print(f"written to {write_result('load', result)}")


if __name__ == "__main__":
    main()
