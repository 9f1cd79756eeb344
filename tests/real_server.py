"""The server on a free port of this machine: in this process, or as the command that users start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from types import TracebackType

import httpx
from fastapi import FastAPI

from gliclass_rerank.serving.server import make_server

_SECONDS = 120  # until a server must be ready, or a request be answered


class Serving:
    """An application that is served by a thread; the block gets a client of it.

    Args:
        app: The application.
    """

    def __init__(self, app: FastAPI) -> None:
        self._server = make_server(app, host="127.0.0.1", port=0, log_level="error")
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> httpx.Client:
        self._thread.start()
        while not self._server.started:
            threading.Event().wait(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_SECONDS)
        return self._client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._server.should_exit = True
        self._thread.join()


class ServeCommand:
    """``gliclass-rerank serve`` in a process of its own, which is ready when the block begins.

    Args:
        options: Command line options.
        env: Environment variables to add to this process's.

    Attributes:
        url: The server's base URL.
        log: The server's log, after ``wait``.
    """

    def __init__(self, *options: str, env: Mapping[str, str] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.url, self.log = f"http://127.0.0.1:{port}", ""
        self._command = [sys.executable, "-m", "gliclass_rerank.cli", "serve", "--port", port, *options]
        self._env = {**os.environ, **(env or {})}

    def __enter__(self) -> ServeCommand:
        self._written = tempfile.TemporaryFile("w+", encoding="utf-8")  # a full pipe would stop it
        self._process = subprocess.Popen(self._command, env=self._env, stderr=self._written)
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                httpx.get(f"{self.url}/ready", timeout=_SECONDS).raise_for_status()
                return self
            except httpx.HTTPError:
                threading.Event().wait(0.1)
        self._process.kill()
        self.wait()
        raise RuntimeError(f"the server did not start: {self.log}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self.wait()
        self._written.close()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the process to end; its exit status."""
        status = self._process.wait(_SECONDS)
        self.log = self.read_log()
        return status

    def read_log(self) -> str:
        """The log so far."""
        self._written.seek(0)
        return self._written.read()
