"""Filter a context by sentences: of each passage, only what answers the query goes into the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gliclass_rerank.compression.spans import (
    CountTokens,
    ScoredSpan,
    fill_budget,
    join_spans,
    merge_neighbours,
    score_sentences,
)
from gliclass_rerank.context import estimate_tokens
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage
from gliclass_rerank.validation import (
    check_count,
    check_required_count,
    check_some_queries,
    check_text,
    check_texts,
    check_threshold,
)

# Sentences are scored in the best passages that would fill the budget so many times, and in five at least: they hold
# the answer, and the rest costs time.
_DEPTH = 4
_MIN_PASSAGES = 5


@dataclass(frozen=True, slots=True)
class CompressedPassage:
    """What is left of a passage.

    Attributes:
        index: The passage's position in the input.
        score: The whole passage's score, in [0, 1].
        text: The spans' texts in reading order, with "…" for each gap between them.
        spans: Their places in the passage, each with its own score.
        facets: The score of each facet, in [0, 1].

    Example:
        >>> span = ScoredSpan(10, 16, "Three.", 0.8)
        >>> CompressedPassage(index=2, score=0.9, text="Three.", spans=(span,)).spans[0].start
        10
    """

    index: int
    score: float
    text: str
    spans: tuple[ScoredSpan, ...]
    facets: Mapping[str, float] = field(default_factory=dict, hash=False)


def compress_context(
    query: str | Iterable[str],
    passages: Iterable[str],
    *,
    token_budget: int,
    reranker: GLiClassReranker | None = None,
    count_tokens: CountTokens = estimate_tokens,
    top_k: int | None = None,
    threshold: float | None = None,
    fusion: Fusion = "max",
    together: bool = False,
    facets: Iterable[str] | Mapping[str, float] = (),
    retrieval_weight: float = 0.0,
) -> list[CompressedPassage]:
    """Fill a token budget with the sentences that answer a query best.

    Passages are ranked and split into sentences; code blocks, tables, lists and headings of Markdown stay whole.
    A sentence counts by the mean of its own logit and its passage's. The best go in until the budget is full. An
    equal sentence goes in once, and one with nothing to read not at all.

    Args:
        query: The question or search words; or several.
        passages: The passages.
        token_budget: Tokens that the returned texts may have together, at least 1.
        reranker: Scores passages and sentences; None loads the bundled model, so pass yours if you call this often.
        count_tokens: Counts a text's tokens as the language model does. The default estimates one token per four
            characters, which suits English.
        top_k: How many passages to use at most; None for all.
        threshold: Use passages with ``score >= threshold``, in [0, 1]; None for all.
        fusion: See ``GLiClassReranker.rank``.
        together: See ``GLiClassReranker.rank``.
        facets: See ``GLiClassReranker.rank``. They are scored beside whole passages.
        retrieval_weight: See ``GLiClassReranker.rank``.

    Returns:
        The passages of which a sentence went in, best first.

    Raises:
        TypeError: ``token_budget`` is not an int, or another argument is refused by ``GLiClassReranker.rank``.
        ValueError: ``token_budget`` is below 1, or another argument is out of range.

    Example:
        >>> passages = ["Tea is a drink. It is brewed from leaves.", "Coffee is roasted."]
        >>> [best] = compress_context("What is tea brewed from?", passages, token_budget=7)
        >>> best.text, best.index, (best.spans[0].start, best.spans[0].end)
        ('It is brewed from leaves.', 0, (16, 41))
    """
    check_required_count("token_budget", token_budget)
    queries = check_some_queries("query", query)
    passages = check_texts("passages", passages)
    reranker = reranker or GLiClassReranker.from_pretrained()
    hits = reranker.rank(
        queries,
        passages,
        top_k=top_k,
        threshold=threshold,
        fusion=fusion,
        together=together,
        facets=facets,
        retrieval_weight=retrieval_weight,
    )
    return compress_hits(
        reranker,
        queries,
        hits,
        passages,
        token_budget=token_budget,
        count_tokens=count_tokens,
        fusion=fusion,
        together=together,
        retrieval_weight=retrieval_weight,
    )


def compress_hits(
    reranker: GLiClassReranker,
    query: str | Sequence[str],
    hits: Sequence[RankedPassage],
    texts: Sequence[str],
    *,
    token_budget: int,
    count_tokens: CountTokens = estimate_tokens,
    fusion: Fusion = "max",
    together: bool = False,
    retrieval_weight: float = 0.0,
) -> list[CompressedPassage]:
    """``compress_context`` for passages that are ranked already, as the adapters have them.

    Args:
        reranker: Scores the sentences.
        query: The query, or several.
        hits: The result of ``reranker.rank``.
        texts: By a hit's index, the text to compress; it may lack metadata that the model read before it.
        token_budget: See ``compress_context``.
        count_tokens: See ``compress_context``.
        fusion: The same as for ``rank``.
        together: The same as for ``rank``.
        retrieval_weight: The same as for ``rank``.

    Returns:
        The hits of which a sentence went in, in their order.

    Example:
        >>> reranker = GLiClassReranker.from_pretrained(device="cpu")
        >>> texts = ["Tea is a drink. It is brewed from leaves."]
        >>> hits = reranker.rank("What is tea brewed from?", texts)
        >>> compress_hits(reranker, "What is tea brewed from?", hits, texts, token_budget=7)[0].text
        'It is brewed from leaves.'
    """
    candidates = score_sentences(
        reranker,
        query,
        _first_hits(hits, texts, _DEPTH * token_budget, count_tokens),
        texts,
        fusion=fusion,
        together=together,
        retrieval_weight=retrieval_weight,
    )
    chosen = fill_budget(candidates, texts, token_budget, count_tokens)
    compressed = []
    for hit in hits:
        if hit.index in chosen:
            text = texts[hit.index]
            spans = merge_neighbours(text, chosen[hit.index])
            joined = join_spans(text, spans)
            compressed.append(CompressedPassage(hit.index, hit.score, joined, tuple(spans), hit.facets))
    return compressed


def highlight(
    query: str | Iterable[str],
    passage: str,
    *,
    reranker: GLiClassReranker | None = None,
    top_k: int | None = 3,
    threshold: float | None = None,
) -> list[ScoredSpan]:
    """Find the sentences of a passage that answer a query best, for instance to mark them on a page.

    Args:
        query: The question or search words; or several, of which the best counts.
        passage: The passage.
        reranker: Scores the sentences; None loads the bundled model, so pass yours if you call this often.
        top_k: How many sentences to return at most; None for all.
        threshold: Return sentences with ``score >= threshold``, in [0, 1]; None for all.

    Returns:
        Sentences and blocks with their places, best first. Each has the score that it has on its own.

    Raises:
        TypeError: ``query`` or ``passage`` is not a str, or ``top_k`` or ``threshold`` is not a number.
        ValueError: The query has no token, or ``top_k`` or ``threshold`` is out of range.

    Example:
        >>> passage = "Tea is a drink. It is brewed from leaves."
        >>> [best] = highlight("What is tea brewed from?", passage, top_k=1)
        >>> passage[best.start : best.end]
        'It is brewed from leaves.'
    """
    check_count("top_k", top_k)
    check_threshold("threshold", threshold)
    queries, passage = check_some_queries("query", query), check_text("passage", passage)
    reranker = reranker or GLiClassReranker.from_pretrained()
    hit = RankedPassage(0, 0.0, passage, truncated=False, logit=0.0)
    candidates = score_sentences(reranker, queries, [hit], [passage])
    spans = [candidate.span for candidate in candidates]
    return [span for span in spans if threshold is None or span.score >= threshold][:top_k]


def _first_hits(
    hits: Iterable[RankedPassage], texts: Sequence[str], max_tokens: int, count_tokens: CountTokens
) -> list[RankedPassage]:
    """The first hits, up to the one that reaches a number of tokens, but not fewer than ``_MIN_PASSAGES``."""
    first: list[RankedPassage] = []
    tokens = 0
    for hit in hits:
        if tokens >= max_tokens and len(first) >= _MIN_PASSAGES:
            break
        first.append(hit)
        tokens += count_tokens(texts[hit.index])
    return first
