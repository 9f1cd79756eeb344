"""What goes wrong around a server, done on purpose: what is lost, and how long it lasts.

    python -m benchmarks.faults [--only disconnects full sigterm fuzz ray] [--requests 10000] [--json FILE]

- disconnects: clients that close their connection before the answer.
- full: more than may wait.
- sigterm: the server is stopped under load.
- fuzz: requests that schemathesis makes from the server's own description, well and badly formed ones.
- ray: the only replica of the Ray Serve application is killed under load by clients that try again. Ray
  listens on all of the machine's addresses while this runs.

Fails where a promise is broken. Prints what happened and writes results/faults.json, or FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from benchmarks.results_file import write_result
from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import make_app
from gliclass_rerank.serving.limits import Limits
from tests.real_server import ServeCommand, Serving
from tests.request_fuzz import send_fuzz

QUERY = "How do plants make sugar?"
PASSAGES = 20
CLIENTS = 8


def body(number: int) -> dict[str, Any]:
    """A request unlike all others: equal pairs would be scored once."""
    texts = [f"{number}, {i}: leaves turn light, water and air into sugar. " * 8 for i in range(PASSAGES)]
    return {"query": QUERY, "texts": texts}


def disconnects(requests: int) -> dict[str, Any]:
    """Clients go away; the server drops what they asked for, and answers the next one."""
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
    _promise(len(left) > 0, "some clients go away")
    _promise(len(answer) == PASSAGES, "the next client is answered")
    _promise(float(metrics["gliclass_waiting_passages"]) == 0, "nothing is left waiting")
    _promise(scored < gone * PASSAGES, "not all of what nobody waits for is scored")
    return {"clients": gone, "gone before the answer": len(left), "passages scored": scored}


def full(requests: int) -> dict[str, Any]:
    """More than may wait: what is refused is told when to come again, what is taken is answered."""
    asked = min(requests, 60)
    app = make_app(GLiClassReranker.from_pretrained(), limits=Limits(waiting=10 * PASSAGES))
    with Serving(app) as client, ThreadPoolExecutor(asked) as pool:
        answers = list(pool.map(lambda number: client.post("/rerank", json=body(number)), range(asked)))
    statuses = Counter(answer.status_code for answer in answers)
    _promise(set(statuses) == {200, 429} and statuses[200] >= 10, f"answered or refused, not {statuses}")
    refused = [answer for answer in answers if answer.status_code == 429]
    _promise(all("Retry-After" in answer.headers for answer in refused), "the refused know when to come again")
    return {"requests": asked, "statuses": dict(statuses)}


def sigterm(requests: int) -> dict[str, Any]:
    """The server is stopped under load: whoever was taken is answered."""
    asked = min(requests, 40)
    with ServeCommand() as server, ThreadPoolExecutor(asked) as pool:
        with httpx.Client(base_url=server.url, timeout=120, limits=httpx.Limits(max_connections=asked)) as client:
            answers = [pool.submit(client.post, "/rerank", json=body(number)) for number in range(asked)]
            while 'status="200"' not in client.get("/metrics").text:
                time.sleep(0.05)
            server.terminate()
            statuses = Counter(answer.result().status_code for answer in answers)
        status = server.wait()
    _promise(statuses == {200: asked}, f"all that were taken are answered, not {statuses}")
    return {"requests": asked, "statuses": dict(statuses), "exit status": status}


def fuzz(requests: int) -> dict[str, Any]:
    """Requests of all forms: none is answered with a status of 500 or more, or without JSON."""
    limits = Limits(passages=50, passage_characters=100_000, body_bytes=1_000_000)
    with Serving(make_app(GLiClassReranker.from_pretrained(), limits=limits)) as client:
        statuses = send_fuzz(str(client.base_url).rstrip("/"), requests)
    return {"requests": sum(statuses.values()), "statuses": dict(sorted(statuses.items()))}


def ray(requests: int) -> dict[str, Any]:
    """The only replica is killed: whoever tries again is answered, and before long."""
    import ray
    from ray import serve

    from gliclass_rerank.serving.ray import app

    # Ray Serve's router waits longer and longer for a free replica otherwise; before anything of Ray starts.
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
        asked = min(requests, 200)

        def ask(number: int) -> list[float]:
            """The scores in the order of the passages; none if there is no answer."""
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
            while len(answered) < asked // 4 and time.monotonic() < give_up:
                time.sleep(0.01)
            [replica] = [
                actor for actor in ray.util.list_named_actors(all_namespaces=True) if "SERVE_REPLICA" in actor["name"]
            ]
            ray.kill(ray.get_actor(replica["name"], replica["namespace"]))
            return time.monotonic()

        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            killing = pool.submit(kill)
            found = list(pool.map(ask, range(asked)))
        killed = killing.result()
        expected = [reranker.score(QUERY, body(number)["texts"]) for number in range(asked)]
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
    later = sorted(at for at in answered if at > killed)
    gap = max(after - before for before, after in zip([killed, *later], later, strict=False))
    _promise(all(map(_close, found, expected)), "all are answered at last, as in process")
    _promise(gap < 30, f"service is back within 30 s, not {gap:.1f} s")
    return {"requests": asked, "failures, tried again": dict(failures), "longest silence, seconds": round(gap, 1)}


FAULTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "disconnects": disconnects,
    "full": full,
    "sigterm": sigterm,
    "fuzz": fuzz,
    "ray": ray,
}


def _close(scores: list[float], expected: list[float]) -> bool:
    """Whether scores agree as far as they do in bf16."""
    return len(scores) == len(expected) and all(abs(a - b) < 5e-3 for a, b in zip(scores, expected, strict=True))


def _promise(kept: bool, what: str) -> None:
    if not kept:
        raise AssertionError(f"broken: {what}")


def main() -> None:
    """Do them, print and write what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--requests", type=int, default=10_000, help="at most; only fuzz makes so many")
    parser.add_argument("--json", type=Path, help="write here in place of results/faults.json")
    options = parser.parse_args()
    console, found = Console(), {}
    for name in options.only:
        start = time.monotonic()
        found[name] = FAULTS[name](options.requests) | {"seconds": 0.0}
        found[name]["seconds"] = round(time.monotonic() - start, 1)
        console.print(name, found[name])
    if options.json:
        options.json.write_text(json.dumps(found), encoding="utf-8")
    else:
        console.print(f"written to {write_result('faults', found)}")


if __name__ == "__main__":
    main()
