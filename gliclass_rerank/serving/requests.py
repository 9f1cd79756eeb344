"""Read a request's key and body, and stop work for a client that has left."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from gliclass_rerank.serving.errors import RefusalError
from gliclass_rerank.serving.limits import Limits

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


def check_key(request: Request, api_key: str | None) -> None:
    """Refuse a request without the server's key.

    Args:
        request: The request; it shows the key as "Authorization: Bearer ..." or "X-API-Key".
        api_key: The key; None if the server has none.

    Raises:
        RefusalError: The key is missing or wrong.
    """
    if api_key is None:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    keys = [request.headers.get("x-api-key", ""), token if scheme.lower() == "bearer" else ""]
    # Headers are decoded as Latin-1, whatever they hold. The comparison takes the same time wherever two keys differ.
    if not any(hmac.compare_digest(key.encode("latin-1"), api_key.encode()) for key in keys):
        raise RefusalError(401, "unauthorized", "a valid API key is missing.")


async def read_body(request: Request, limits: Limits) -> dict[str, Any]:
    """A request's body as a JSON object.

    Args:
        request: The request.
        limits: How large it may be, and how long it may take to arrive.

    Raises:
        RefusalError: It is too large, too slow or not a JSON object.
        ClientDisconnect: The client left.
    """
    content = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limits.body_bytes:
                    raise RefusalError(413, "validation", f"the body has more than {limits.body_bytes} bytes.")
    except TimeoutError as error:
        message = f"the body did not arrive within {limits.body_seconds:g} seconds."
        raise RefusalError(408, "timeout", message) from error
    try:
        body = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, "validation", "the body is not JSON.") from error
    if not isinstance(body, dict):
        raise RefusalError(400, "validation", "the body is not a JSON object.")
    for name in ("texts", "documents", "passages", "labels"):  # before the items are checked one by one
        items = body.get(name)
        if isinstance(items, list) and len(items) > limits.passages:
            raise RefusalError(413, "validation", f"{name} has {len(items)} items, more than {limits.passages}.")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON.")


def parse(kind: type[Body], raw: dict[str, Any]) -> Body:
    """A body with its fields checked.

    Args:
        kind: What it should be.
        raw: The JSON object.

    Raises:
        ValueError: A field is missing or has the wrong type.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place or 'the body'}: {first['msg']}.") from error


def check_length(name: str, text: str, max_characters: int) -> None:
    """Refuse a text that is too long.

    Args:
        name: What the error calls it.
        text: The text.
        max_characters: How long it may be.

    Raises:
        RefusalError: It is longer.
    """
    if len(text) > max_characters:
        raise RefusalError(413, "validation", f"{name} has {len(text)} characters, more than {max_characters}.")


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of some work, which is cancelled when the client leaves.

    Args:
        request: The client's request; its body has been read.
        work: The work.

    Raises:
        ClientDisconnect: The client left.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(request.receive())  # the body is read, so the next message is the end
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        disconnect.cancel()
        task.cancel()
