"""Score the sentences of ranked passages, and fill a token budget with those that add most.

A sentence counts by the mean of two logits: its own, and its passage's. The sentence alone knows too little ("It was
built in 1850."), the passage alone cannot say where in it the answer is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gliclass_rerank.compression.sentences import split_sentences
from gliclass_rerank.fusion import Fusion
from gliclass_rerank.reranker import GLiClassReranker, RankedPassage

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class ScoredSpan:
    """A part of a passage: a sentence, several neighbouring ones, or a block such as a table.

    Attributes:
        start: Its first character in the passage.
        end: The character after its last one.
        text: ``passage[start:end]``.
        score: How well it answers the query on its own, in [0, 1]; of several sentences the best one's.

    Example:
        >>> ScoredSpan(0, 4, "Tea.", 0.5).text
        'Tea.'
    """

    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may go into the context.

    Attributes:
        hit: Its passage.
        number: Its place among the passage's sentences.
        span: Its place in the text, and its own score.
        logit: Decides on the order: the mean of its own logit and its passage's.
    """

    hit: RankedPassage
    number: int
    span: ScoredSpan
    logit: float


def score_sentences(
    reranker: GLiClassReranker,
    query: str | Sequence[str],
    hits: Iterable[RankedPassage],
    texts: Sequence[str],
    *,
    fusion: Fusion = "max",
    together: bool = False,
    retrieval_weight: float = 0.0,
) -> list[Candidate]:
    """Split passages into sentences and score them in one call.

    Args:
        reranker: Scores the sentences.
        query: The query, or several.
        hits: The ranked passages.
        texts: The text to split of each passage, by its index.
        fusion: See ``GLiClassReranker.rank``.
        together: See ``GLiClassReranker.rank``.
        retrieval_weight: See ``GLiClassReranker.rank``.

    Returns:
        The sentences that have something to read, best first; equal ones in the order of hits and of reading.
    """
    places = [(hit, number, span) for hit in hits for number, span in enumerate(split_sentences(texts[hit.index]))]
    sentences = [texts[hit.index][start:end] for hit, _, (start, end) in places]
    candidates: list[Candidate | None] = [None] * len(places)
    for scored in reranker.rank(query, sentences, fusion=fusion, together=together):
        hit, number, (start, end) = places[scored.index]
        passage_logit = hit.logit - retrieval_weight * math.log(hit.index + 1)
        span = ScoredSpan(start, end, scored.text, scored.score)
        candidates[scored.index] = Candidate(hit, number, span, (scored.logit + passage_logit) / 2)
    readable = [candidate for candidate in candidates if candidate is not None and candidate.span.score > 0]
    return sorted(readable, key=lambda candidate: -candidate.logit)


def fill_budget(
    candidates: Iterable[Candidate], texts: Sequence[str], token_budget: int, count_tokens: CountTokens
) -> dict[int, list[Candidate]]:
    """Choose sentences, best first, until the texts that they make are as long as the budget.

    A sentence that does not fit is left out, and a shorter one after it may still fit. Equal sentences are chosen
    once.

    Args:
        candidates: The sentences, best first.
        texts: The text of each passage, by its index.
        token_budget: Tokens that the compressed passages may have together.
        count_tokens: Counts the tokens of a text.

    Returns:
        The chosen sentences of each passage, by its index, in reading order.
    """
    chosen: dict[int, list[Candidate]] = {}
    tokens: dict[int, int] = {}
    seen: set[str] = set()
    for candidate in candidates:
        index, sentence = candidate.hit.index, candidate.span.text
        used_by_others = sum(tokens.values()) - tokens.get(index, 0)
        if sentence in seen or sum(tokens.values()) + count_tokens(sentence) > token_budget:
            continue
        longer = sorted([*chosen.get(index, []), candidate], key=lambda other: other.number)
        count = count_tokens(join_spans(texts[index], merge_neighbours(texts[index], longer)))
        if used_by_others + count <= token_budget:  # a tokenizer's counts do not add up exactly, so the whole counts
            chosen[index], tokens[index] = longer, count
            seen.add(sentence)
    return chosen


def merge_neighbours(text: str, sentences: Sequence[Candidate]) -> list[ScoredSpan]:
    """The spans of sentences in reading order; neighbours become one span.

    Args:
        text: The passage's text.
        sentences: Sentences of it, in reading order.
    """
    spans: list[ScoredSpan] = []
    last_number = -2
    for sentence in sentences:
        start, score = sentence.span.start, sentence.span.score
        if sentence.number == last_number + 1:
            earlier = spans.pop()
            start, score = earlier.start, max(score, earlier.score)
        spans.append(ScoredSpan(start, sentence.span.end, text[start : sentence.span.end], score))
        last_number = sentence.number
    return spans


def join_spans(text: str, spans: Sequence[ScoredSpan]) -> str:
    """The text of spans with a mark for each gap between them, on a line of its own if the gap has a line's end.

    Args:
        text: The passage's text.
        spans: Spans of it, in reading order.

    Example:
        >>> join_spans("One. Two. Three.", [ScoredSpan(0, 4, "One.", 0.5), ScoredSpan(10, 16, "Three.", 0.5)])
        'One. … Three.'
    """
    pieces = [spans[0].text]
    for span, following in pairwise(spans):
        has_newline = "\n" in text[span.end : following.start]
        pieces += ["\n…\n" if has_newline else " … ", following.text]
    return "".join(pieces)
