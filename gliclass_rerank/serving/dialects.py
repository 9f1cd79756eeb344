"""What clients of other rerankers send, and what they expect back.

Read off from the clients themselves: Cohere's SDK (v1 and v2), Jina's, vLLM's and Infinity's routes, and
Hugging Face's Text Embeddings Inference (TEI). Every optional field may be null, and unknown ones
are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from gliclass_rerank.probabilities import logit

# Fields that only vLLM's bodies have.
_VLLM = ("truncate_prompt_tokens", "additional_data", "softmax", "activation", "use_activation", "mm_processor_kwargs")


class RerankBody(BaseModel):
    """A request to rerank: ``texts`` in TEI's dialect, ``documents`` in the others."""

    model_config = ConfigDict(extra="allow", strict=True)

    query: str
    texts: list[str] | None = None
    documents: list[str | dict[str, Any]] | None = Field(None, description="Texts, or objects with a text.")
    top_n: int | None = Field(None, description="How many results; all without it. 0 is all on vLLM's bodies alone.")
    return_documents: bool | None = None
    model: str | None = Field(None, description="Taken and given back; the server has one model.")
    raw_scores: bool | None = Field(None, description="TEI and Infinity: logits in place of scores in [0, 1].")
    return_text: bool | None = Field(None, description="TEI: give the texts back.")
    truncate: Any = Field(None, description="TEI: false to refuse texts that would be cut; others' is ignored.")


class ClassifyBody(BaseModel):
    """A request to classify."""

    model_config = ConfigDict(extra="ignore", strict=True)

    texts: list[str]
    labels: list[str]
    threshold: float | None = Field(0.5, ge=0, le=1)
    single_label: bool | None = None
    prompt: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class RerankRequest:
    """A request to rerank, whatever the dialect."""

    query: str
    passages: list[str]
    top_n: int | None
    body: RerankBody
    is_tei: bool
    with_documents: bool
    may_cut: bool = True


def read_rerank(body: RerankBody, path: str) -> RerankRequest:
    """Find out the dialect of a body, and what is asked.

    Args:
        body: The body.
        path: The route it came on; vLLM's and Infinity's clients use the root one.

    Raises:
        ValueError: What is asked makes no sense, or a document has no text.

    Example:
        >>> read_rerank(RerankBody(query="tea", texts=["Rain."]), "/rerank").is_tei
        True
    """
    if (body.texts is None) == (body.documents is None):
        raise ValueError("expected either texts or documents.")
    if body.texts is not None:
        if body.truncate not in (None, True, False):
            raise ValueError(f"truncate is {body.truncate!r}, expected true or false.")
        given, may_cut = bool(body.return_text), body.truncate is not False
        return RerankRequest(body.query, body.texts, None, body, is_tei=True, with_documents=given, may_cut=may_cut)
    passages = [_text_of(i, document) for i, document in enumerate(body.documents or ())]
    is_vllm = path == "/rerank" or any(field in (body.model_extra or {}) for field in _VLLM)
    top_n = body.top_n
    if top_n is not None and (top_n < 0 or (top_n == 0 and not is_vllm)):
        raise ValueError(f"top_n is {top_n}, expected at least 1.")
    with_documents = is_vllm if body.return_documents is None else body.return_documents
    return RerankRequest(body.query, passages, top_n or None, body, is_tei=False, with_documents=with_documents)


def _text_of(index: int, document: str | dict[str, Any]) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        raise ValueError(f"documents[{index}] has no text, expected a str or an object with a text.")
    return text


def write_rerank(request: RerankRequest, scores: Sequence[float], model: str, tokens: int) -> Any:  # noqa: ANN401 - JSON
    """What the client expects back, best first; equal scores in input order.

    Args:
        request: What was asked.
        scores: One per passage.
        model: The name of the server's model.
        tokens: How many were read, for clients that count them.

    Example:
        >>> request = read_rerank(RerankBody(query="tea", texts=["Rain.", "Tea."]), "/rerank")
        >>> write_rerank(request, [0.1, 0.9], "m", 7)
        [{'index': 1, 'score': 0.9}, {'index': 0, 'score': 0.1}]
    """
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[: request.top_n]
    given = list(map(logit, scores)) if request.body.raw_scores else scores
    if request.is_tei:
        return [
            {
                "index": i,
                "score": given[i],
                **({"text": request.passages[i]} if request.with_documents else {}),
            }
            for i in order
        ]
    results = [
        {
            "index": i,
            "relevance_score": given[i],
            **({"document": {"text": request.passages[i]}} if request.with_documents else {}),
        }
        for i in order
    ]
    return {
        "id": str(uuid4()),
        "object": "rerank",
        "model": request.body.model or model,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }


def write_error(status: int, kind: str, message: str, *, is_tei: bool) -> dict[str, Any]:
    """An error's body in the words of the caller: TEI's, or one that Cohere's, Jina's and vLLM's clients all read.

    Args:
        status: The HTTP status.
        kind: One word of what went wrong.
        message: The sentence.
        is_tei: Whether the request was in TEI's dialect.

    Example:
        >>> write_error(429, "overloaded", "Try again.", is_tei=True)
        {'error': 'Try again.', 'error_type': 'overloaded'}
    """
    if is_tei:
        return {"error": message, "error_type": kind}
    return {"message": message, "detail": message, "error": {"message": message, "type": kind, "code": status}}
