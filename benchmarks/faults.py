"""Provoke faults around a server, and report what is lost and for how long.

    python -m benchmarks.faults [--only disconnects full sigterm ray] [--requests 200] [--json FILE]

- disconnects: clients close their connection before the answer.
- full: more passages are sent than may wait.
- sigterm: the server is stopped under load.
- ray: the only replica of the Ray Serve application is killed under load by clients that try again. Ray
  listens on all of the machine's addresses while this runs.

Fails if the server breaks a promise. Prints the results and writes results/faults.json, or FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from benchmarks.results_file import ResultTable, make_table, write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import make_app
from gliclass_rerank.serving.limits import Limits
from tests.real_server import ServeCommand, Serving

QUERY = "How do plants make sugar?"
PASSAGES = 20
CLIENTS = 8


def body(number: int) -> dict[str, Any]:
    """A request unlike all others, since equal pairs are scored once."""
    texts = [f"{number}, {i}: leaves turn light, water and air into sugar. " * 8 for i in range(PASSAGES)]
    return {"query": QUERY, "texts": texts}


def disconnects(requests: int) -> dict[str, Any]:
    """Clients leave; the server drops their requests and answers the next one."""
    gone = min(requests, 100)
    with Serving(make_app(GLiClassReranker.from_pretrained())) as client:

        def leave(number: int) -> None:
            try:
                leaving.post("/rerank", json=body(number))
            except httpx.TimeoutException:
                left.append(1)

        left: list[int] = []
        with httpx.Client(base_url=client.base_url, timeout=0.5) as leaving, ThreadPoolExecutor(gone) as pool:
            list(pool.map(leave, range(gone)))
        answer = client.post("/rerank", json=body(gone)).raise_for_status().json()
        metrics = dict(
            line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#")
        )
    scored = float(metrics["gliclass_passages_total"])
    _promise(len(left) > 0, "some clients leave")
    _promise(len(answer) == PASSAGES, "the next client is answered")
    _promise(float(metrics["gliclass_waiting_passages"]) == 0, "nothing is left waiting")
    _promise(scored < gone * PASSAGES, "requests of clients that left are dropped")
    return {"clients": gone, "gone before the answer": len(left), "passages scored": scored}


def full(requests: int) -> dict[str, Any]:
    """More passages than may wait: refused requests learn when to try again, accepted ones are answered."""
    count = min(requests, 60)
    app = make_app(GLiClassReranker.from_pretrained(), limits=Limits(waiting=10 * PASSAGES))
    with Serving(app) as client, ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda number: client.post("/rerank", json=body(number)), range(count)))
    statuses = Counter(answer.status_code for answer in answers)
    _promise(set(statuses) == {200, 429} and statuses[200] >= 10, f"answered or refused, not {statuses}")
    refused = [answer for answer in answers if answer.status_code == 429]
    _promise(all("Retry-After" in answer.headers for answer in refused), "refused requests have a Retry-After")
    return {"requests": count, "statuses": dict(statuses)}


def sigterm(requests: int) -> dict[str, Any]:
    """The server is stopped under load: accepted requests are answered."""
    count = min(requests, 40)
    with ServeCommand() as server, ThreadPoolExecutor(count) as pool:
        with httpx.Client(base_url=server.url, timeout=120, limits=httpx.Limits(max_connections=count)) as client:
            answers = [pool.submit(client.post, "/rerank", json=body(number)) for number in range(count)]
            while 'status="200"' not in client.get("/metrics").text:
                time.sleep(0.05)
            server.send_signal(signal.SIGTERM)
            statuses = Counter(answer.result().status_code for answer in answers)
        status = server.wait()
    _promise(statuses == {200: count}, f"accepted requests are answered, not {statuses}")
    return {"requests": count, "statuses": dict(statuses), "exit status": status}


def ray(requests: int) -> dict[str, Any]:
    """The only replica is killed: clients that try again are answered soon."""
    import ray
    from ray import serve

    from gliclass_rerank.serving.ray import app

    # Otherwise Ray Serve's router waits longer and longer for a free replica. Ray reads these when it starts.
    os.environ |= {
        "RAY_SERVE_ROUTER_RETRY_INITIAL_BACKOFF_S": "0.005",
        "RAY_SERVE_ROUTER_RETRY_BACKOFF_MULTIPLIER": "1",
        "RAY_SERVE_ROUTER_RETRY_MAX_BACKOFF_S": "0.01",
    }
    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        serve.run(app({}), name="reranker")
        url = "http://127.0.0.1:8000/rerank"
        httpx.post(url, json=body(0), timeout=60).raise_for_status()
        reranker = GLiClassReranker.from_pretrained()
        answered: list[float] = []
        failures: Counter[str] = Counter()
        count = min(requests, 200)

        def ask(number: int) -> list[float]:
            """The scores in the order of the passages; empty without an answer."""
            give_up = time.monotonic() + 120
            while time.monotonic() < give_up:
                try:
                    answer = httpx.post(url, json=body(number), timeout=60)
                    if answer.status_code == 200:
                        answered.append(time.monotonic())
                        return [hit["score"] for hit in sorted(answer.json(), key=lambda hit: hit["index"])]
                    failures[str(answer.status_code)] += 1
                except httpx.HTTPError as error:
                    failures[type(error).__name__] += 1
                time.sleep(0.2)
            return []

        def kill() -> float:
            give_up = time.monotonic() + 120
            while len(answered) < count // 4 and time.monotonic() < give_up:
                time.sleep(0.01)
            [replica] = [
                actor for actor in ray.util.list_named_actors(all_namespaces=True) if "SERVE_REPLICA" in actor["name"]
            ]
            ray.kill(ray.get_actor(replica["name"], replica["namespace"]))
            return time.monotonic()

        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            killing = pool.submit(kill)
            scores = list(pool.map(ask, range(count)))
        killed = killing.result()
        expected = [reranker.score(QUERY, body(number)["texts"]) for number in range(count)]
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
    later = sorted(at for at in answered if at > killed)
    gap = max(after - before for before, after in zip([killed, *later], later, strict=False))
    _promise(all(map(_close, scores, expected)), "all clients get the right scores in the end")
    _promise(gap < 30, f"service is back within 30 s, not {gap:.1f} s")
    return {"requests": count, "failures, tried again": dict(failures), "longest silence, seconds": round(gap, 1)}


FAULTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "disconnects": disconnects,
    "full": full,
    "sigterm": sigterm,
    "ray": ray,
}


def faults_table(results: dict[str, dict[str, Any]]) -> ResultTable:
    """Each fault and its outcome."""
    rows = []
    if clients := results.get("disconnects"):
        count, scored = clients["clients"], clients["passages scored"]
        outcome = f"{scored:.0f} of {20 * count:,} passages are scored; the next one is answered"
        rows.append([f"{count} clients close their connection", outcome])
    for name, cause in (("full", "{:,} at a time where few may wait"), ("sigterm", "SIGTERM while {:,} wait")):
        if result := results.get(name):
            statuses = ", ".join(f"{count:,} × {status}" for status, count in result["statuses"].items())
            rows.append([cause.format(result["requests"]), statuses])
    if replica := results.get("ray"):
        retried, silence = sum(replica["failures, tried again"].values()), replica["longest silence, seconds"]
        outcome = f"all {replica['requests']} are answered, {retried} of them when tried again; "
        rows.append(["Ray Serve's only replica is killed under load", f"{outcome}the longest silence is {silence} s"])
    return make_table(["fault", "outcome"], rows)


def _close(scores: list[float], expected: list[float]) -> bool:
    """Whether scores agree to the tolerance of bf16."""
    return len(scores) == len(expected) and all(abs(a - b) < 1e-2 for a, b in zip(scores, expected, strict=True))


def _promise(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(f"broken: {promise}")


def main() -> None:
    """Provoke the faults, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--requests", type=int, default=200, help="requests of each fault at most")
    parser.add_argument("--json", type=Path, help="write here instead of results/faults.json")
    options = parser.parse_args()
    console, results = Console(), {}
    for name in options.only:
        start = time.monotonic()
        results[name] = FAULTS[name](options.requests) | {"seconds": 0.0}
        results[name]["seconds"] = round(time.monotonic() - start, 1)
        console.print(name, results[name])
    if options.json:
        options.json.write_text(json.dumps(results), encoding="utf-8")
    else:
        console.print(f"written to {write_result('faults', results | {'table': faults_table(results)})}")


if __name__ == "__main__":
    main()
