"""Slow clients and signals: connections that send half a request, and a server that is stopped under load."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import CLOSE_SECONDS, make_app
from gliclass_rerank.serving.limits import Limits
from gliclass_rerank.serving.server import STOP_SECONDS, SlowHeaderProtocol, make_server
from tests.real_server import ServeCommand, Serving
from tests.serving_helpers import QUERY, wait_until

BODY = {"query": QUERY, "texts": ["Leaves turn light into sugar. " * 40] * 200}


@pytest.fixture
def quick_server(bundled: GLiClassReranker, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The address of a server that waits a tenth of a second for headers and bodies."""
    monkeypatch.setattr(SlowHeaderProtocol, "header_seconds", 0.1)
    with Serving(make_app(bundled, limits=Limits(body_seconds=0.1))) as client:
        yield client.base_url.host, client.base_url.port or 80


def read_all(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    connection.settimeout(30)
    return b"".join(iter(lambda: connection.recv(4096), b""))


def test_a_connection_with_half_sent_headers_is_closed(quick_server: tuple[str, int]) -> None:
    with socket.create_connection(quick_server) as connection:
        connection.sendall(b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-")
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_a_second_request_s_headers_have_the_same_time_limit(quick_server: tuple[str, int]) -> None:
    with socket.create_connection(quick_server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.settimeout(30)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /health HT")
        assert b"HTTP/1.1 408" in read_all(connection)


def test_a_body_that_does_not_arrive_is_answered_with_408(quick_server: tuple[str, int]) -> None:
    with socket.create_connection(quick_server) as connection:
        connection.sendall(b'POST /v1/rerank HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"query"')
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408") and b"the body did not arrive within 0.1 seconds" in answer


def test_idle_connections_stay_open_longer_than_proxies_keep_them(bundled: GLiClassReranker) -> None:
    config = make_server(make_app(bundled), host="127.0.0.1", port=0).config
    assert config.timeout_keep_alive == 75


def test_a_stop_takes_at_most_65_seconds(bundled: GLiClassReranker) -> None:
    config = make_server(make_app(bundled), host="127.0.0.1", port=0).config
    assert Limits().seconds < (config.timeout_graceful_shutdown or 1e9)  # every request is answered by then
    assert (config.timeout_graceful_shutdown or 1e9) + CLOSE_SECONDS + STOP_SECONDS <= 65


def post_under_load(server: ServeCommand, pool: ThreadPoolExecutor, requests: int) -> list[Any]:
    """Start requests that take a while, and return as soon as the first one was answered."""
    headers = {"X-API-Key": "secret"}
    answers = [
        pool.submit(httpx.post, f"{server.url}/rerank", json=BODY, headers=headers, timeout=120)
        for _ in range(requests)
    ]
    wait_until(lambda: any(answer.done() for answer in answers), seconds=120)
    return answers


@pytest.mark.slow
def test_sigterm_stops_the_server_after_the_accepted_requests() -> None:
    with (
        ServeCommand("--device", "cpu", env={"GLICLASS_API_KEY": "secret"}) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        answers = post_under_load(server, pool, 4)
        server.send_signal(signal.SIGTERM)
        assert [len(answer.result().raise_for_status().json()) for answer in answers] == [200] * 4
        status = server.wait()
    assert status in (0, -signal.SIGTERM)  # uvicorn ends itself by the signal that it got
    assert "secret" not in server.log and "Leaves" not in server.log
    assert '"route": "/rerank", "status": 200' in server.log


@pytest.mark.slow
def test_a_second_ctrl_c_stops_the_server_cleanly_under_load() -> None:
    with (
        ServeCommand("--device", "cpu", env={"GLICLASS_API_KEY": "secret"}) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        answers = post_under_load(server, pool, 4)
        server.send_signal(signal.SIGINT)
        wait_until(lambda: "Shutting down" in server.read_log())
        server.send_signal(signal.SIGINT)
        status = server.wait()
        for answer in answers:
            answer.exception()  # those that were dropped have one
    assert status in (0, 1, 130) and "Fatal Python error" not in server.log
