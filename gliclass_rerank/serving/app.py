"""The HTTP application: its routes, and how a request becomes an answer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

import gliclass_rerank
from gliclass_rerank.reranker import GLiClassReranker
from gliclass_rerank.serving.api_page import write_api_page
from gliclass_rerank.serving.dialects import ClassifyBody, RerankBody, read_rerank, speaks_tei, write_rerank
from gliclass_rerank.serving.errors import RefusalError, explain, write_error
from gliclass_rerank.serving.limits import Limits
from gliclass_rerank.serving.metrics import Metrics
from gliclass_rerank.serving.page import read_page
from gliclass_rerank.serving.paths import NormalizePaths
from gliclass_rerank.serving.requests import check_key, check_length, parse, read_body, while_connected
from gliclass_rerank.serving.service import ScoringService
from gliclass_rerank.validation import check_query

log = logging.getLogger("gliclass_rerank.serving")
_Work = Callable[[dict[str, Any], str, str], Awaitable[Any]]  # body, route and client in; the answer out

RERANK_ROUTES = ("/rerank", "/v1/rerank", "/v2/rerank", "/v1/ranking", "/v1/retrieval/{model:path}/reranking")
_READY_SECONDS = 5.0  # for which a forward pass shows that the model works
CLOSE_SECONDS = 3.0  # by then every request has been answered, or has reached its own time limit


class _Server:
    """The handlers of all routes, and what they share."""

    def __init__(self, reranker: GLiClassReranker, api_key: str | None, limits: Limits) -> None:
        self.reranker, self._api_key, self._limits = reranker, api_key, limits
        self.metrics = Metrics(lambda: self.service.scheduler.waiting)
        self.service = ScoringService(
            reranker,
            max_waiting=limits.waiting,
            seconds=limits.seconds,
            on_scored=lambda count: self.metrics.count_passages(count),
        )
        self._probing = asyncio.Lock()

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self.service.close, seconds=CLOSE_SECONDS)

    async def rerank(self, request: Request) -> Response:
        """Rerank passages, in TEI's, NVIDIA's, Cohere's, Jina's or vLLM's dialect."""
        return await self._answer(request, self._rerank)

    async def classify(self, request: Request) -> Response:
        """Score labels against texts."""
        return await self._answer(request, self._classify)

    async def health(self) -> Response:
        """Whether the process works."""
        is_alive = self.service.scheduler.is_alive
        return JSONResponse({"status": "ok" if is_alive else "down"}, 200 if is_alive else 503)

    async def ready(self) -> Response:
        """Whether the model works: a forward pass, unless one was made in the last seconds."""
        async with self._probing:  # one pass for all who ask at the same time
            if time.monotonic() - self.service.worked_at > _READY_SECONDS:
                try:
                    await asyncio.wait_for(self.service.probe(), self._limits.seconds)
                except Exception as error:
                    log.exception("not ready")
                    return JSONResponse({"status": "not ready", "reason": type(error).__name__}, 503)
        return JSONResponse({"status": "ready"})

    async def info(self) -> Response:
        """Which model answers, also in the fields of TEI that its clients read."""
        reranker, limits = self.reranker, self._limits
        label = {"id2label": {"0": "relevant"}, "label2id": {"relevant": 0}}
        content = {
            "model": reranker.name,
            "device": reranker.device,
            "max_length": reranker.max_length,
            "recommended_threshold": reranker.recommended_threshold,
            "version": gliclass_rerank.__version__,
            "model_id": reranker.name,
            "model_dtype": reranker.dtype,
            "model_type": {"reranker": label},
            "max_input_length": reranker.max_length,
            "max_client_batch_size": limits.passages,
            "max_concurrent_requests": limits.waiting,
            "auto_truncate": True,
        }
        return JSONResponse(content)

    async def models(self) -> Response:
        """The one model, in a list like OpenAI's."""
        model = {"id": self.reranker.name, "object": "model", "created": 0, "owned_by": "gliclass-rerank"}
        return JSONResponse({"object": "list", "data": [model]})

    async def write_metrics(self) -> Response:
        """Counters for Prometheus."""
        return Response(self.metrics.write(), media_type=CONTENT_TYPE_LATEST)

    async def _answer(self, request: Request, work: _Work) -> Response:
        """Check the key, read the body, work, and turn an error into one that the client can read."""
        start, route = time.perf_counter(), request.scope["route"].path  # the pattern, not what the client wrote
        client = request.client.host if request.client else ""
        headers: dict[str, str] = {}
        fields: dict[str, Any] = {"route": route}
        is_tei = speaks_tei({}, route)
        try:
            async with asyncio.timeout(self._limits.seconds):
                check_key(request, self._api_key)
                body = await read_body(request, self._limits)
                is_tei = speaks_tei(body, route)
                content = await while_connected(request, work(body, route, client))
            status, answer = 200, json.dumps(content, allow_nan=False)  # ASCII, so that any passage can be returned
        except Exception as error:
            failure = explain(error, is_tei=is_tei)
            status, answer = failure.status, json.dumps(write_error(failure, is_tei=is_tei))
            fields |= {"kind": failure.kind, "error": type(error).__name__}
            if failure.retry_after is not None:
                headers["Retry-After"] = str(failure.retry_after)
            if status == 408:
                headers["Connection"] = "close"  # the rest of the body may still come
            if failure.kind == "backend":
                log.exception("scoring failed")
        seconds = time.perf_counter() - start
        self.metrics.count_request(route, status, seconds)
        log.info("request", extra={"fields": {**fields, "status": status, "seconds": round(seconds, 4)}})
        return Response(answer, status, headers, "application/json")

    async def _rerank(self, raw: dict[str, Any], route: str, client: str) -> Any:  # noqa: ANN401 - JSON
        request = read_rerank(parse(RerankBody, raw), route)
        check_length("the query", request.query, self._limits.query_characters)
        max_characters = self._limits.passage_characters
        if self.reranker.options.long_passages == "windows":
            max_characters = min(max_characters, self._limits.window_characters)
        for i, passage in enumerate(request.passages):
            check_length(f"passage {i}", passage, max_characters)
        check_query("query", request.query)
        results = await self.service.rerank(request.query, request.passages, client)
        cut = [i for i, result in enumerate(results) if result.truncated]
        max_length = self.reranker.max_length
        if cut and not request.may_cut:
            raise ValueError(
                f"passage {cut[0]} does not fit into {max_length} tokens beside the query. Shorten it, or allow "
                "truncation."
            )
        return write_rerank(request, results, model=self.reranker.name, max_length=max_length)

    async def _classify(self, raw: dict[str, Any], _: str, client: str) -> Any:  # noqa: ANN401 - JSON
        body, limits = parse(ClassifyBody, raw), self._limits
        pairs = len(body.texts) * len(body.labels)
        if pairs > limits.label_pairs:
            message = f"{len(body.texts)} texts times {len(body.labels)} labels is more than {limits.label_pairs}."
            raise RefusalError(413, "validation", message)
        for i, text in enumerate(body.texts):
            check_length(f"text {i}", text, limits.passage_characters)
        prompt = body.prompt or ""
        for name, text in (("the prompt", prompt), *((f"label {i}", label) for i, label in enumerate(body.labels))):
            check_length(name, text, limits.query_characters)
        characters = sum(map(len, body.labels))
        if characters > limits.label_characters:
            message = f"the labels have {characters} characters, more than {limits.label_characters}."
            raise RefusalError(413, "validation", message)
        results, cut = await self.service.classify(
            body.texts,
            body.labels,
            threshold=body.threshold,
            single_label=bool(body.single_label),
            prompt=prompt,
            client=client,
        )
        answer = {"model": body.model or self.reranker.name, "results": results}
        return answer | ({"truncated": cut} if cut else {})


def make_app(
    reranker: GLiClassReranker,
    *,
    api_key: str | None = None,
    limits: Limits | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """An HTTP application around a reranker.

    ``app.state.service`` is the ``ScoringService`` behind the routes.

    Args:
        reranker: The model, and how to score with it.
        api_key: The key that callers of the scoring routes and readers of the API's description must show, as
            "Authorization: Bearer ..." or "X-API-Key"; None if everyone may call them.
        limits: What the server accepts; None for the defaults.
        cors_origins: Origins of web pages that may call it from a browser, for instance "https://example.com", or
            "*" for any.

    Raises:
        ValueError: The key is empty.

    Example:
        >>> from gliclass_rerank import GLiClassReranker
        >>> app = make_app(GLiClassReranker.from_pretrained(device="cpu"))
        >>> "/v2/rerank" in app.openapi()["paths"]
        True
    """
    if api_key is not None and not api_key.strip():
        raise ValueError("api_key is empty, which would let everyone in. Pass a key, or None for no key.")
    server = _Server(reranker, api_key, limits or Limits())
    app = FastAPI(
        title="gliclass-rerank",
        version=gliclass_rerank.__version__,
        lifespan=server.lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.service = server.service
    for path in RERANK_ROUTES:
        app.post(path, openapi_extra=_describe(RerankBody), include_in_schema="{" not in path)(server.rerank)
    app.post("/v1/classify", openapi_extra=_describe(ClassifyBody))(server.classify)
    for name in ("health", "ready", "info"):
        app.get(f"/{name}")(getattr(server, name))
    app.get("/v1/models")(server.models)
    app.get("/metrics")(server.write_metrics)
    _add_description(app, api_key)
    app.add_middleware(NormalizePaths)
    if cors_origins:
        headers = ["Authorization", "Content-Type", "X-API-Key"]
        app.add_middleware(
            CORSMiddleware, allow_origins=cors_origins, allow_methods=["GET", "POST"], allow_headers=headers
        )
    return app


def _describe(body: type[BaseModel]) -> dict[str, Any]:
    """The API description of a body that the handler reads itself."""
    content = {"application/json": {"schema": body.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _add_description(app: FastAPI, api_key: str | None) -> None:
    """Routes that describe the API, to those who have the key, and the page at ``/``, to all."""
    page = read_page()

    def describe(request: Request, write: Callable[[dict[str, Any]], Response]) -> Response:
        try:
            check_key(request, api_key)
        except RefusalError as error:
            return JSONResponse(write_error(explain(error, is_tei=False), is_tei=False), error.status)
        return write(app.openapi())

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        return describe(request, JSONResponse)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return describe(request, lambda schema: HTMLResponse(write_api_page(schema)))

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return HTMLResponse(page.html, headers=page.headers)
