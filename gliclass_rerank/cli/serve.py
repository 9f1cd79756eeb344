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
    model: Annotated[str | None, typer.Option(help="Hub name or folder. Default: the bundled model.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps. Default: the best one.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of query and passage together.")] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Read long passages in overlapping windows instead of cutting them.")
    ] = False,
    api_key: Annotated[
        str | None, typer.Option(envvar="GLICLASS_API_KEY", help="Key that callers must show. Default: none.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of web pages that may call the server; repeat for more.")
    ] = None,
) -> None:
    """Serve a model to clients of Cohere, Jina, vLLM, NVIDIA, TEI and others.

    The page /docs lists the routes. After SIGTERM or Ctrl-C the server answers the requests it has accepted; a
    second Ctrl-C drops them. The log has a JSON object per line.
    """
    with errors_in_one_line():
        for module in ("fastapi", "uvicorn", "prometheus_client"):
            require(module, extra="serve")
        from gliclass_rerank.bulk.loading import load_reranker
        from gliclass_rerank.serving.app import make_app
        from gliclass_rerank.serving.server import run_server

        with errors.status("loading", spinner="dots"):
            long_passages: LongPassages = "windows" if windows else "truncate"
            reranker = load_reranker(RerankerOptions(model, device, max_length=max_length, long_passages=long_passages))
        app = make_app(reranker, api_key=api_key, cors_origins=cors_origin or ())
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonLines())
        logging.basicConfig(handlers=[handler], level=logging.INFO)
        run_server(app, host=host, port=port)


class _JsonLines(logging.Formatter):
    """A JSON object per record, with the fields that came as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)
