"""Errors as status codes and bodies that each kind of client can read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect

from gliclass_rerank.serving.scheduler import ClosedError, OverloadedError


class RefusalError(Exception):
    """A request that the server does not accept.

    Args:
        status: The HTTP status.
        kind: One word for the reason.
        message: The reason in a sentence.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a request that failed.

    Attributes:
        status: The HTTP status.
        kind: One word for the reason.
        message: The reason in a sentence.
        retry_after: Seconds after which it is worth trying again; None if it is not.
    """

    status: int
    kind: str
    message: str
    retry_after: int | None = None


def explain(error: Exception, *, is_tei: bool) -> Failure:
    """The answer to a request that raised an error.

    Args:
        error: The error.
        is_tei: Whether the client speaks TEI's dialect, which has other status codes.

    Example:
        >>> explain(ValueError("top_n is -1."), is_tei=False).status
        400
    """
    if isinstance(error, RefusalError):
        return Failure(error.status, error.kind, str(error))
    if isinstance(error, OverloadedError):
        return Failure(429, "overloaded", f"{error} Try again later.", retry_after=math.ceil(error.retry_after))
    if isinstance(error, ClosedError):
        return Failure(503, "unhealthy", str(error))
    if isinstance(error, ClientDisconnect):
        return Failure(499, "cancelled", "the client closed the connection.")
    if isinstance(error, TimeoutError):
        return Failure(503, "timeout", "the request was not finished in time.")
    if isinstance(error, (ValueError, TypeError)):  # a query without a token, for instance
        return Failure(422 if is_tei else 400, "validation", str(error))
    return Failure(424 if is_tei else 500, "backend", "scoring failed.")


def write_error(failure: Failure, *, is_tei: bool) -> dict[str, Any]:
    """The body of an error: TEI's, or one in which Cohere's, Jina's and vLLM's clients all find the message.

    Args:
        failure: The reason.
        is_tei: Whether the client speaks TEI's dialect.

    Example:
        >>> write_error(Failure(429, "overloaded", "Try again."), is_tei=True)
        {'error': 'Try again.', 'error_type': 'overloaded'}
    """
    message = failure.message
    if is_tei:
        return {"error": message, "error_type": failure.kind}
    error = {"message": message, "type": failure.kind, "code": failure.status}
    return {"message": message, "detail": message, "error": error}
