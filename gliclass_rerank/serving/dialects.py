"""The requests of other rerankers' clients, and the answers that they read.

The dialects are those of Hugging Face's Text Embeddings Inference (TEI), of NVIDIA's NIM, and one that Cohere (v1 and
v2), Jina, vLLM, Infinity and many others share. Every optional field may be null, and unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from gliclass_rerank.engine.passages import PassageLogits
from gliclass_rerank.probabilities import sigmoid

Dialect = Literal["tei", "nvidia", "cohere"]

_VLLM_FIELDS = {"truncate_prompt_tokens", "additional_data", "softmax", "use_activation", "mm_processor_kwargs"}
_CHARACTERS_PER_TOKEN = 4  # an estimate, for clients that read how many tokens they used


def _refuse_bool(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


# Some clients write "true" for true, and "2" or 2.0 for 2.
_Flag = Annotated[bool, Field(strict=False)]
_Count = Annotated[int, Field(strict=False), BeforeValidator(_refuse_bool)]
_Text = str | dict[str, Any]


class RerankBody(BaseModel):
    """A request to rerank: TEI's has ``texts``, NVIDIA's ``passages``, the others' ``documents``."""

    model_config = ConfigDict(extra="allow", strict=True)

    query: _Text = Field(description="The question: a text, or an object with a text.")
    documents: list[_Text] | None = Field(None, description="The passages: texts, or objects with a text.")
    texts: list[str] | None = Field(None, description="The passages in TEI's dialect.")
    passages: list[_Text] | None = Field(None, description="The passages in NVIDIA's dialect.")
    top_n: _Count | None = Field(None, description="How many results to return; null or 0 for all.")
    return_documents: _Flag | None = Field(None, description="Whether to return the passages.")
    rank_fields: list[str] | None = Field(None, description="Cohere v1: which fields of an object to read.")
    model: str | None = Field(None, description="Returned as it came: the server has one model.")
    raw_scores: _Flag | None = Field(None, description="Whether to return logits instead of scores in [0, 1].")
    return_text: _Flag | None = Field(None, description="TEI: whether to return the passages.")
    truncate: Any = Field(None, description="TEI: false, NVIDIA: NONE, to refuse a text that does not fit.")


class ClassifyBody(BaseModel):
    """A request to classify."""

    model_config = ConfigDict(extra="ignore", strict=True)

    texts: list[str] = Field(description="The texts to classify.")
    labels: list[str] = Field(description="The labels to score.")
    threshold: float | None = Field(0.5, ge=0, le=1, description="Return labels with at least this score.")
    single_label: _Flag | None = Field(None, description="Whether to return only the best label of each text.")
    prompt: str | None = Field(None, description="A description of the task.")
    model: str | None = Field(None, description="Returned as it came: the server has one model.")


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """A request to rerank, in whatever dialect it came.

    Attributes:
        query: The question.
        passages: The passages.
        dialect: The dialect of the answer.
        top_n: How many results to return; None for all.
        returns_passages: Whether results hold their passages.
        raw_scores: Whether results hold logits instead of scores.
        may_cut: Whether a text that does not fit may be cut.
        model: The model's name as the client wrote it.
    """

    query: str
    passages: list[str]
    dialect: Dialect = "cohere"
    top_n: int | None = None
    returns_passages: bool = False
    raw_scores: bool = False
    may_cut: bool = True
    model: str | None = None


def speaks_tei(body: Mapping[str, Any], path: str) -> bool:
    """Whether a client expects errors in TEI's dialect.

    Args:
        body: The request's body, whatever it holds.
        path: The route that it came on.

    Example:
        >>> speaks_tei({}, "/rerank"), speaks_tei({"documents": []}, "/rerank")
        (True, False)
    """
    has_other = body.get("documents") is not None or body.get("passages") is not None
    return body.get("texts") is not None or (path == "/rerank" and not has_other)


def read_rerank(body: RerankBody, path: str) -> RerankRequest:
    """Read a request to rerank in any dialect.

    Args:
        body: The body.
        path: The route that it came on; vLLM's and Infinity's clients use the root one.

    Raises:
        ValueError: A field is out of range, or a passage has no text.

    Example:
        >>> read_rerank(RerankBody(query="tea", texts=["Rain."]), "/rerank").dialect
        'tei'
    """
    if sum(field is not None for field in (body.texts, body.documents, body.passages)) != 1:
        raise ValueError("expected either texts, documents or passages.")
    if body.top_n is not None and body.top_n < 0:
        raise ValueError(f"top_n is {body.top_n}; expected at least 1, or 0 for all.")
    query = _read_text("query", body.query)
    if body.texts is not None:
        return RerankRequest(
            query,
            body.texts,
            "tei",
            returns_passages=bool(body.return_text),
            raw_scores=bool(body.raw_scores),
            may_cut=_read_truncate(body.truncate),
        )
    if body.passages is not None:
        passages = [_read_text(f"passages[{i}]", passage) for i, passage in enumerate(body.passages)]
        return RerankRequest(query, passages, "nvidia", body.top_n or None, may_cut=body.truncate != "NONE")
    fields = body.rank_fields or ("text",)
    passages = [_read_text(f"documents[{i}]", document, fields) for i, document in enumerate(body.documents or ())]
    is_vllm = path == "/rerank" or not _VLLM_FIELDS.isdisjoint(body.model_extra or {})
    return RerankRequest(
        query,
        passages,
        "cohere",
        body.top_n or None,
        returns_passages=is_vllm if body.return_documents is None else body.return_documents,
        raw_scores=bool(body.raw_scores),
        model=body.model,
    )


def _read_text(name: str, value: _Text, fields: Sequence[str] = ("text",)) -> str:
    """A text, or the named fields of an object line by line."""
    if isinstance(value, str):
        return value
    texts = [value[field] for field in fields if field in value]
    if not texts or not all(isinstance(text, str) for text in texts):
        expected = " and ".join(map(repr, fields))
        raise ValueError(f"{name} has no text; expected a str, or an object with {expected}.")
    return "\n".join(texts)


def _read_truncate(value: Any) -> bool:  # noqa: ANN401 - JSON
    try:
        return value is None or TypeAdapter(bool).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"truncate is {value!r}; expected true or false.") from error


def write_rerank(request: RerankRequest, results: Sequence[PassageLogits], *, model: str, max_length: int) -> Any:  # noqa: ANN401 - JSON
    """The answer to a request, best passage first; equal ones in input order.

    A result of which the model read only a part says ``"truncated": true``; other results don't have the field.

    Args:
        request: The request.
        results: The model's result for each passage.
        model: The name of the server's model.
        max_length: Tokens of query and passage together.

    Example:
        >>> request = read_rerank(RerankBody(query="tea", passages=["Rain.", "Tea."]), "/v1/ranking")
        >>> results = [PassageLogits((logit,), (), None, False) for logit in (-2.0, 3.0)]
        >>> write_rerank(request, results, model="m", max_length=512)["rankings"]
        [{'index': 1, 'logit': 3.0}, {'index': 0, 'logit': -2.0}]
    """
    order = sorted(range(len(results)), key=lambda i: -results[i].logits[0])[: request.top_n]
    hits = [_write_hit(request, i, results[i]) for i in order]
    if request.dialect == "tei":
        return hits
    characters = sum(map(len, request.passages)) + len(request.query) * len(request.passages)
    tokens = characters // _CHARACTERS_PER_TOKEN
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    if request.dialect == "nvidia":
        return {"rankings": hits, "usage": usage}
    meta: dict[str, Any] = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": tokens, "output_tokens": 0},
    }
    if cut := sum(result.truncated for result in results):
        meta["warnings"] = [f"{cut} of {len(results)} passages or their query were cut to {max_length} tokens."]
    return {
        "id": str(uuid4()),
        "object": "rerank",
        "model": request.model or model,
        "results": hits,
        "usage": usage,
        "meta": meta,
    }


def _write_hit(request: RerankRequest, index: int, result: PassageLogits) -> dict[str, Any]:
    logit, passage = result.logits[0], request.passages[index]
    score = logit if request.raw_scores else sigmoid(logit)
    hit: dict[str, Any] = {"index": index}
    if request.dialect == "tei":
        hit |= {"score": score} | ({"text": passage} if request.returns_passages else {})
    elif request.dialect == "nvidia":
        hit |= {"logit": logit}
    else:
        hit |= {"relevance_score": score} | ({"document": {"text": passage}} if request.returns_passages else {})
    return hit | ({"truncated": True} if result.truncated else {})
