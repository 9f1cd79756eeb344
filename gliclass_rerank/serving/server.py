"""Run the application with time-outs for slow clients, and stop it in a bounded time."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from gliclass_rerank.serving.limits import Limits

_KEEP_ALIVE_SECONDS = 75  # longer than the 60 of common proxies, which would otherwise send into a closed connection
STOP_SECONDS = 1  # for the model's thread to end its piece
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class SlowHeaderProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which also closes connections whose request headers don't arrive in time."""

    header_seconds = 20.0
    _timer: asyncio.TimerHandle | None = None
    _has_begun = False  # the current request's headers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request as long as for any other one on the connection."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.timeout_keep_alive, transport.close)

    def data_received(self, data: bytes) -> None:
        """Start the clock with the first bytes of a request, and stop it with the last bytes of its headers."""
        super().data_received(data)
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting or not self._has_begun:
            self._stop_timer()
        if is_waiting and not self._has_begun:
            self._timer = self.loop.call_later(self.header_seconds, self._give_up)
        self._has_begun = is_waiting

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TIMED_OUT)
            self.transport.close()


def make_server(
    app: FastAPI, *, host: str, port: int, limits: Limits | None = None, log_level: str | None = None
) -> uvicorn.Server:
    """A uvicorn server for an application of ``make_app``.

    Args:
        app: The application.
        host: The address to listen on.
        port: The port to listen on; 0 for any free one.
        limits: The application's limits; None for the defaults.
        log_level: The level of uvicorn's own log; None to leave it as it is.

    Example:
        >>> from gliclass_rerank import GLiClassReranker
        >>> from gliclass_rerank.serving.app import make_app
        >>> app = make_app(GLiClassReranker.from_pretrained(device="cpu"))
        >>> make_server(app, host="127.0.0.1", port=8080).config.timeout_keep_alive
        75
    """
    seconds = (limits or Limits()).seconds
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=SlowHeaderProtocol,
        access_log=False,
        log_config=None,
        log_level=log_level,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        # By then each request has been answered, or told that its time is over.
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    return uvicorn.Server(config)


def run_server(app: FastAPI, *, host: str, port: int, limits: Limits | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer the accepted requests; a second Ctrl-C drops them.

    Args:
        app: The application of ``make_app``.
        host: The address to listen on.
        port: The port to listen on.
        limits: The application's limits; None for the defaults.
    """
    with suppress(KeyboardInterrupt):
        make_server(app, host=host, port=port, limits=limits).run()
    # After a second Ctrl-C nothing has stopped the model's thread. If Python exits while it is inside native
    # code, the process aborts.
    if not app.state.service.close(seconds=STOP_SECONDS):
        logging.shutdown()
        os._exit(1)
