"""The HTTP application: routes, limits, errors in the caller's dialect, and what an operator looks at."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

import gliclass_rerank
from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage
from gliclass_rerank.serving.batcher import Batcher, ClosedError, OverloadedError
from gliclass_rerank.serving.dialects import (
    ClassifyBody,
    RerankBody,
    RerankRequest,
    read_rerank,
    write_error,
    write_rerank,
)
from gliclass_rerank.validation import check_query

log = logging.getLogger("gliclass_rerank.serving")
_Work = Callable[[dict[str, Any], str], Awaitable[Any]]  # a body and a route to what is answered
_RETRY_AFTER = "1"  # seconds, when too much is waiting
_READY_SECONDS = 5.0  # for which a forward pass shows that the model works
_GONE = (499, "cancelled", "the client closed the connection.")
_CHARACTERS_PER_TOKEN = 4  # an estimate, for the clients that count tokens


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server takes.

    Attributes:
        body_bytes: Of a request's body.
        passages: Of a request; likewise texts to classify, and labels.
        label_pairs: Texts times labels of a request to classify.
        passage_characters: Of a passage; of a query, a label or a prompt a hundredth.
        waiting: Passages that wait at most, of all requests together; one counts for each 4,000 characters.
        seconds: Until a request is given up.
    """

    body_bytes: int = 32 << 20
    passages: int = 2000
    label_pairs: int = 20_000
    passage_characters: int = 1_000_000
    waiting: int = 8192
    seconds: float = 60.0


class _RefusalError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class _Metrics:
    """What Prometheus scrapes; a registry of its own, so that a process may have several applications."""

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("gliclass_requests", "Requests answered.", ["route", "status"], registry=own)
        self.seconds = Histogram("gliclass_request_seconds", "Seconds until the answer.", ["route"], registry=own)
        self.passages = Counter("gliclass_passages", "Passages scored.", registry=own)
        waiting = Gauge("gliclass_waiting_passages", "Passages that wait.", registry=own)
        waiting.set_function(lambda: batcher.waiting)


class _Server:
    """What the routes share, and what they do."""

    def __init__(self, reranker: GLiClassReranker, api_key: str | None, limits: Limits) -> None:
        self._reranker, self._api_key, self._limits = reranker, api_key, limits
        self._classifier = ZeroShotClassifier(reranker.engine.model, reranker.options)
        self._batcher = Batcher(self._score_pairs, most_waiting=limits.waiting)
        self._metrics = _Metrics(self._batcher)
        self._checking, self._worked_at = asyncio.Lock(), -_READY_SECONDS

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """At the end, whatever was taken is finished."""
        yield
        await asyncio.to_thread(self._batcher.close)

    async def rerank(self, request: Request) -> Response:
        """Rerank passages: TEI's, Cohere's, Jina's or vLLM's body."""
        return await self._answer(request, self._rerank)

    async def classify(self, request: Request) -> Response:
        """Score labels against texts."""
        return await self._answer(request, self._classify)

    async def health(self) -> Response:
        """Whether the process works."""
        alive = self._batcher.alive
        return JSONResponse({"status": "ok" if alive else "down"}, 200 if alive else 503)

    async def ready(self) -> Response:
        """Whether the model works: a real forward pass, unless one has just been made for somebody."""
        async with self._checking:  # however many ask, there is one pass
            if time.monotonic() - self._worked_at > _READY_SECONDS:
                try:
                    await asyncio.wait_for(self._batcher.score("ready", ["ready"]), self._limits.seconds)
                except Exception as error:
                    log.exception("not ready")
                    return JSONResponse({"status": "not ready", "reason": type(error).__name__}, 503)
        return JSONResponse({"status": "ready"})

    async def info(self) -> Response:
        """Which model answers."""
        found = {
            "model": self._reranker.name,
            "model_id": self._reranker.name,  # as TEI calls it
            "device": self._reranker.device,
            "max_length": self._reranker.max_length,
            "recommended_threshold": self._reranker.recommended_threshold,
            "version": gliclass_rerank.__version__,
        }
        return JSONResponse(found)

    async def metrics(self) -> Response:
        """What Prometheus scrapes."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _answer(self, request: Request, work: _Work) -> Response:
        """Check, work, and turn whatever goes wrong into an error that the caller reads."""
        start, route = time.perf_counter(), request.scope["route"].path  # without a prefix, or what a client says
        headers: dict[str, str] = {}
        told: dict[str, Any] = {"route": route}
        is_tei = route == "/rerank"
        try:
            async with asyncio.timeout(self._limits.seconds):
                _check_key(request, self._api_key)
                body = await _read_body(request, self._limits)
                is_tei = body.get("texts") is not None or (is_tei and body.get("documents") is None)
                content = await _while_connected(request, work(body, route))
            status, answer = 200, json.dumps(content, allow_nan=False)  # ASCII, so that any passage can go back
        except Exception as error:
            status, kind, message = _explain(error, is_tei=is_tei)
            answer = json.dumps(write_error(status, kind, message, is_tei=is_tei))
            told |= {"kind": kind, "error": type(error).__name__}
            if status == 429:
                headers["Retry-After"] = _RETRY_AFTER
            if kind == "backend":
                log.exception("scoring failed")
        seconds = time.perf_counter() - start
        self._metrics.requests.labels(route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        log.info("request", extra={"fields": {**told, "status": status, "seconds": round(seconds, 4)}})
        return Response(answer, status, headers, "application/json")

    async def _rerank(self, raw: dict[str, Any], route: str) -> Any:  # noqa: ANN401 - JSON
        asked = read_rerank(_parse(RerankBody, raw), route)
        _check_length("the query", asked.query, self._limits.passage_characters // 100)
        for i, passage in enumerate(asked.passages):
            _check_length(f"passage {i}", passage, self._limits.passage_characters)
        check_query("query", asked.query)
        scores = await self._score(asked) if asked.passages else []
        characters = sum(map(len, asked.passages)) + len(asked.query) * len(asked.passages)
        return write_rerank(asked, scores, self._reranker.name, characters // _CHARACTERS_PER_TOKEN)

    async def _score(self, asked: RerankRequest) -> list[float]:
        if asked.may_cut:
            return await self._batcher.score(asked.query, asked.passages)
        hits: list[RankedPassage] = await self._batcher.run(
            lambda: self._reranker.rank(asked.query, asked.passages), weight=len(asked.passages)
        )
        scores = [0.0] * len(hits)
        for hit in hits:
            if hit.truncated:
                raise ValueError(
                    f"passage {hit.index} does not fit into {self._reranker.max_length} tokens beside the query, and "
                    "truncate is false."
                )
            scores[hit.index] = hit.score
        return scores

    def _score_pairs(self, pairs: list[tuple[str, str]]) -> list[float]:
        scores = self._reranker.score_pairs(pairs)
        self._metrics.passages.inc(len(scores))
        self._worked_at = time.monotonic()
        return scores

    async def _classify(self, raw: dict[str, Any], _: str) -> Any:  # noqa: ANN401 - JSON
        asked = _parse(ClassifyBody, raw)
        pairs = len(asked.texts) * len(asked.labels)
        if pairs > self._limits.label_pairs:
            most = self._limits.label_pairs
            raise _RefusalError(413, "validation", f"{pairs} pairs of texts and labels, at most {most} are taken.")
        for i, text in enumerate(asked.texts):
            _check_length(f"text {i}", text, self._limits.passage_characters)
        for label in (*asked.labels, asked.prompt or ""):
            _check_length("a label, or the prompt,", label, self._limits.passage_characters // 100)
        kind: Any = "single-label" if asked.single_label else "multi-label"
        results = await self._batcher.run(
            lambda: self._classifier(asked.texts, asked.labels, asked.threshold, kind, prompt=asked.prompt),
            weight=pairs,
        )
        return {"model": asked.model or self._reranker.name, "results": results}


def make_app(reranker: GLiClassReranker, *, api_key: str | None = None, limits: Limits | None = None) -> FastAPI:
    """An application around a reranker.

    Args:
        reranker: What scores.
        api_key: What callers of the scoring routes have to show, as "Authorization: Bearer ..." or "X-API-Key";
            None for nothing.
        limits: What is taken; None for the defaults.

    Raises:
        ValueError: The key is empty.

    Example:
        >>> from gliclass_rerank import GLiClassReranker
        >>> app = make_app(GLiClassReranker.from_pretrained(device="cpu"))
        >>> "/v2/rerank" in app.openapi()["paths"]
        True
    """
    if api_key is not None and not api_key.strip():
        raise ValueError("api_key is empty, which would let everyone in: give one, or leave it out.")
    server = _Server(reranker, api_key, limits or Limits())
    app = FastAPI(title="gliclass-rerank", version=gliclass_rerank.__version__, lifespan=server.lifespan)
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        app.post(path, openapi_extra=_describe(RerankBody))(server.rerank)
    app.post("/v1/classify", openapi_extra=_describe(ClassifyBody))(server.classify)
    for name in ("health", "ready", "info", "metrics"):
        app.get(f"/{name}")(getattr(server, name))
    return app


def _explain(error: Exception, *, is_tei: bool) -> tuple[int, str, str]:
    """Status, kind and message of what went wrong."""
    if isinstance(error, _RefusalError):
        return error.status, error.kind, str(error)
    if isinstance(error, OverloadedError):
        return 429, "overloaded", f"{error} Try again later."
    if isinstance(error, ClosedError):
        return 503, "unhealthy", str(error)
    if isinstance(error, ClientDisconnect):
        return _GONE
    if isinstance(error, TimeoutError):
        return 503, "timeout", "there was no answer in time."
    if isinstance(error, (ValueError, TypeError)):  # a query that leaves no room, for instance
        return (422 if is_tei else 400), "validation", str(error)
    return (424 if is_tei else 500), "backend", "scoring failed."


def _describe(body: type[BaseModel]) -> dict[str, Any]:
    """What the API's description says of a body that the handler reads itself."""
    content = {"application/json": {"schema": body.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _check_key(request: Request, api_key: str | None) -> None:
    if api_key is None:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    shown = [request.headers.get("x-api-key", ""), token if scheme.lower() == "bearer" else ""]
    # Headers come decoded as Latin-1, whatever they are. A comparison takes as long wherever two differ.
    if not any(hmac.compare_digest(key.encode("latin-1"), api_key.encode()) for key in shown):
        raise _RefusalError(401, "unauthorized", "a valid API key is missing.")


async def _read_body(request: Request, limits: Limits) -> dict[str, Any]:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limits.body_bytes:
            raise _RefusalError(413, "validation", f"the body has more than {limits.body_bytes} bytes.")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _RefusalError(400, "validation", "the body is no JSON.") from error
    if not isinstance(body, dict):
        raise _RefusalError(400, "validation", "the body is no JSON object.")
    for name in ("texts", "documents", "labels"):  # before each of them is looked at
        if isinstance(body.get(name), list) and len(body[name]) > limits.passages:
            found = len(body[name])
            raise _RefusalError(413, "validation", f"{found} {name}, at most {limits.passages} are taken.")
    return body


def _parse(kind: type[Any], raw: dict[str, Any]) -> Any:  # noqa: ANN401 - a body of that kind
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place or 'the body'}: {first['msg']}.") from error


def _check_length(name: str, text: str, most: int) -> None:
    if len(text) > most:
        raise _RefusalError(413, "validation", f"{name} has more than {most} characters.")


async def _while_connected(request: Request, work: Awaitable[Any]) -> Any:  # noqa: ANN401 - its result
    """The result of some work, which is cancelled when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # the body is read, so the next message is the end
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for unfinished in (task, gone):
            unfinished.cancel()
