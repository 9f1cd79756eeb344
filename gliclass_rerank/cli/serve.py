"""``gliclass-rerank serve``: rerank over HTTP."""

from __future__ import annotations

import json
import logging
from typing import Annotated

import typer

from gliclass_rerank.cli.terminal import errors, errors_in_one_line
from gliclass_rerank.optional import require
from gliclass_rerank.options import LongPassages, RerankerOptions


def serve(
    model: Annotated[str | None, typer.Option(help="Hub name or folder; the bundled model without it.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the best there is without it.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of query and passage.")] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Read passages that do not fit in overlapping windows, not cut.")
    ] = False,
    api_key: Annotated[
        str | None, typer.Option(envvar="GLICLASS_API_KEY", help="What callers have to show; nothing without it.")
    ] = None,
) -> None:
    """Serve a model to clients of Cohere's, Jina's, vLLM's and TEI's rerankers.

    The routes are /rerank, /v1/rerank, /v2/rerank, /v1/classify, /health, /ready, /info and
    /metrics. Stopped by SIGTERM or SIGINT it answers what it has taken. The log is a JSON object per line.
    """
    with errors_in_one_line():
        for module in ("fastapi", "uvicorn", "prometheus_client"):
            require(module, extra="serve")
        import uvicorn

        from gliclass_rerank.serving.app import Limits, make_app
        from gliclass_rerank.serving.loading import load_reranker

        with errors.status("loading", spinner="dots"):
            long_passages: LongPassages = "windows" if windows else "truncate"
            reranker = load_reranker(RerankerOptions(model, device, max_length=max_length, long_passages=long_passages))
        limits = Limits()
        app = make_app(reranker, api_key=api_key, limits=limits)
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonLines())
        logging.basicConfig(handlers=[handler], level=logging.INFO)
        # A client that never ends its request must not keep the process for ever.
        patience = int(limits.seconds) + 5
        uvicorn.run(app, host=host, port=port, access_log=False, log_config=None, timeout_graceful_shutdown=patience)


class _JsonLines(logging.Formatter):
    """A JSON object per record, with the fields that were given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)
