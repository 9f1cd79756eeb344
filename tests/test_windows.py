"""Long passages in windows: where these stand, and which of them counts."""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.prompt.windows import encode_windows, split_at_tokens
from tests.conftest import PASSAGES

FILLER = "The council met on Monday and spoke about the roads, the weather and the price of coal. "
ANSWER = "Dense loaves are mostly underproofed: the yeast had too little time to make gas."
LONG = FILLER * 60 + ANSWER + " " + FILLER * 40
QUERY = "Why is my bread so dense?"


@pytest.fixture(scope="module")
def windows() -> GLiClassReranker:
    return GLiClassReranker.from_pretrained(device="cpu", dtype="float32", long_passages="windows")


def reranker_of(folder: Path, length: int | None = None, long_passages: str = "windows") -> GLiClassReranker:
    return GLiClassReranker.from_pretrained(
        folder, device="cpu", dtype="float32", max_length=length, long_passages=long_passages
    )


@given(st.text(alphabet="ab  é", min_size=1, max_size=300), st.integers(1, 50))
def test_windows_cover_a_text_overlap_and_are_no_longer_than_asked(text: str, size: int) -> None:
    tokens = [(i, i + 1) for i, character in enumerate(text) if character != " "]
    spans = split_at_tokens(text, tokens, size)
    assert spans[0][0] == 0 and spans[-1][1] == len(text)
    for (_, end), (start, _) in itertools.pairwise(spans):
        between = sum(end <= token < start for token, _ in tokens)
        assert between == 0
    for start, end in spans:
        assert 0 < sum(start <= token < end for token, _ in tokens) <= size or not tokens
    if len(tokens) > size:  # any stretch of a quarter window lies whole in one of them
        short = max(1, size // 4)
        for first in range(len(tokens) - short + 1):
            stretch = tokens[first][0], tokens[first + short - 1][1]
            assert any(start <= stretch[0] and stretch[1] <= end for start, end in spans)


def test_boundaries_lie_between_sentences_where_one_ends() -> None:
    text = " ".join(f"Sentence {i} is here." for i in range(60))
    tokens = [match.span() for match in re.finditer(r"\w+|\.", text)]
    for start, end in split_at_tokens(text, tokens, 50):
        assert text[start:].startswith("Sentence") and text[start:end].endswith("here.")


def test_boundaries_lie_between_words_where_one_is_near() -> None:
    text = " ".join("word" for _ in range(100))
    tokens = [(5 * i + j, 5 * i + j + 1) for i in range(100) for j in range(4)]  # a token for each letter
    for start, end in split_at_tokens(text, tokens, 50):
        assert text[start:end].split() == ["word"] * len(text[start:end].split())


def test_the_best_window_counts_and_is_named(windows: GLiClassReranker) -> None:
    [hit] = windows.rank(QUERY, [LONG])
    assert hit.span is not None and not hit.truncated
    start, end = hit.span
    assert ANSWER in LONG[start:end] and end - start < len(LONG) / 5
    assert hit.score == pytest.approx(windows.score(QUERY, [LONG[start:end]])[0], abs=1e-6)
    cut = GLiClassReranker.from_pretrained(device="cpu", dtype="float32").rank(QUERY, [LONG])[0]
    assert cut.truncated and cut.span is None and cut.score < hit.score


def test_passages_that_fit_are_read_as_before(windows: GLiClassReranker, bundled: GLiClassReranker) -> None:
    assert windows.rank(QUERY, PASSAGES) == bundled.rank(QUERY, PASSAGES)
    among = windows.rank(QUERY, [LONG, *PASSAGES])
    assert {hit.text: hit.span is None for hit in among} == {LONG: False} | dict.fromkeys(PASSAGES, True)


@pytest.mark.parametrize("encoder", ["bert", "deberta-v2", "modernbert"])
@pytest.mark.parametrize("prompt_first", [True, False])
def test_every_tokenizer_s_windows_fit(
    encoder: str, prompt_first: bool, checkpoint_folder: Callable[..., Path]
) -> None:
    folder = checkpoint_folder(encoder, prompt_first=prompt_first, pooling_strategy="avg", scorer_type="mlp")
    prompts = reranker_of(folder).engine.model.checkpoint.prompts
    length = prompts.count_tokens([QUERY]) + 40
    text = "Bread rises, naïve café  東京は日本\n\n12.5 % " * 30
    spans = [span for span, _ in encode_windows(prompts, text, length, room=40, size=40)]
    assert len(spans) > 10
    parts = [text[start:end] for start, end in spans]
    assert not any(prompt.truncated for prompt in prompts.build([QUERY], parts, length))
    hits = {hit.text: hit for hit in reranker_of(folder, length).rank(QUERY, [text, "short"])}
    hit = hits[text]
    assert hits["short"].span is None
    assert not hit.truncated
    assert hit.score == pytest.approx(max(reranker_of(folder, length).score(QUERY, parts)), abs=1e-6)
    assert hit.span in spans


def window_spans(reranker: GLiClassReranker, text: str, *labels: str) -> list[tuple[int, int]]:
    """The windows of a text that does not fit beside some labels."""
    prompts = reranker.engine.model.checkpoint.prompts
    room = reranker.max_length - prompts.count_tokens(labels)
    return [span for span, _ in encode_windows(prompts, text, reranker.max_length, room=room, size=min(192, room))]


def test_each_query_and_facet_has_its_best_window(windows: GLiClassReranker) -> None:
    text = ANSWER + " " + FILLER * 80 + "A bicycle chain wants oil." + FILLER
    queries = [QUERY, "How do I care for a bicycle chain?"]
    apart = windows.score_matrix(queries, [text])
    for query, row in zip(queries, apart, strict=True):
        [hit] = windows.rank(query, [text])
        assert hit.score == pytest.approx(row[0], abs=1e-6)
    [both] = windows.rank(queries, [text])
    assert both.score == pytest.approx(apart.max(), abs=1e-6)
    assert both.span == windows.rank(queries[int(apart[:, 0].argmax())], [text])[0].span
    [hit] = windows.rank(QUERY, [text], facets=["is about bicycles"])
    parts = [text[start:end] for start, end in window_spans(windows, text, QUERY, "is about bicycles")]
    scores = [part.facets["is about bicycles"] for part in windows.rank(QUERY, parts, facets=["is about bicycles"])]
    assert hit.facets["is about bicycles"] == pytest.approx(max(scores), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60), st.integers(1, 40))
def test_any_text_is_read(windows: GLiClassReranker, text: str, times: int) -> None:
    text *= times
    small = GLiClassReranker.from_pretrained(device="cpu", dtype="float32", max_length=24, long_passages="windows")
    [hit] = small.rank("bread", [text])
    assert hit.text == text and 0 <= hit.score <= 1 and not hit.truncated
    tokenizer = small.engine.model.checkpoint.prompts.tokenizer
    if hit.span is None:
        assert len(tokenizer.encode([text], after_control=True)[0]) <= 24
        return
    spans = window_spans(small, text, "bread")
    assert hit.span in spans
    for start, end in tokenizer.token_spans(text):
        assert any(first <= start and end <= last for first, last in spans)


def test_places_are_those_of_the_text_whatever_it_holds(windows: GLiClassReranker) -> None:
    text = "\ud83d\ude00 tea \udc00 " * 400 + ANSWER + " \ud83d tea" * 500
    [hit] = windows.rank(QUERY, [text])
    assert hit.span is not None and "underproofed" in text[slice(*hit.span)]


def test_a_text_of_many_slices_is_covered(windows: GLiClassReranker) -> None:
    text = FILLER * 1700 + ANSWER  # 150,000 characters
    tokenizer = windows.engine.model.checkpoint.prompts.tokenizer
    places = tokenizer.token_spans(text)
    assert [text[start:end] for start, end in places[-3:]] == ["make", "gas", "."]
    assert len(places) == len(tokenizer.encode([text], after_control=True)[0])


@pytest.mark.parametrize("far", ["A" * 600_000 + " " + ANSWER, FILLER * 10 + " " * 600_000 + ANSWER])
def test_nothing_is_too_far_into_a_text_to_be_read(windows: GLiClassReranker, far: str) -> None:
    text = f"{far} {FILLER * 60}"
    spans = window_spans(windows, text, QUERY)
    holding = [text[start:end] for start, end in spans if ANSWER in text[start:end]]
    [hit] = windows.rank(QUERY, [text])
    assert holding and not hit.truncated
    assert hit.score >= max(windows.score(QUERY, holding)) - 1e-6


def test_a_bracket_or_quotation_mark_stays_with_its_sentence() -> None:
    text = "「はい。」と言った。" * 40
    for start, _ in split_at_tokens(text, [(i, i + 1) for i in range(len(text))], 40):
        assert text[start] not in "」。"


def test_with_a_mean_the_span_is_that_of_the_best_pair(windows: GLiClassReranker) -> None:
    text = ANSWER + " " + FILLER * 80 + "A bicycle chain wants oil."
    queries = [QUERY, "How do I care for a bicycle chain?"]
    singles = [windows.rank(query, [text])[0] for query in queries]
    best = max(singles, key=lambda hit: hit.score)
    for fusion in ("max", "mean", "rrf"):
        [hit] = windows.rank(queries, [text], fusion=fusion)
        assert hit.span == best.span
        expected = sum(s.score for s in singles) / 2 if fusion == "mean" else best.score
        assert hit.score == pytest.approx(expected, abs=1e-6)
    [hit] = windows.rank(queries, [text], together=True, facets=["is about bicycles"])
    assert hit.span is not None and list(hit.facets) == ["is about bicycles"]


def test_long_passages_is_checked_and_kept(windows: GLiClassReranker) -> None:
    with pytest.raises(ValueError, match="long_passages is 'cut'; expected one of truncate, windows"):
        GLiClassReranker.from_pretrained(device="cpu", long_passages="cut")
    assert pickle.loads(pickle.dumps(windows)).options == windows.options
    assert windows.options.long_passages == "windows"


@pytest.mark.parametrize("words", [300, 600])
def test_a_query_that_leaves_windows_little_room_is_refused(windows: GLiClassReranker, words: int) -> None:
    for score in (windows.rank, lambda query, texts: windows.score_pairs([(query, texts[0])])):
        with pytest.raises(ValueError, match="of max_length 512 tokens, more than half"):
            score("bread " * words, [LONG])
