"""Splitting texts into sentences and blocks: nothing is lost, and what belongs together stays together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_rerank.compression.sentences import split_sentences

MARKDOWN_PIECES = st.sampled_from(
    [
        "One. Two! ",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "- item\n",
        "# Head\n",
        "```\n",
        "a | b\n--- | ---\n",
        "    code\n",
        "é. ",
        "\ud83d",
        "1. x\n",
    ]
)


def split(text: str, **options: int) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text, **options)]


@given(st.one_of(st.text(), st.lists(MARKDOWN_PIECES).map("".join)), st.integers(1, 50))
def test_pieces_are_in_order_and_only_blanks_lie_between_them(text: str, max_characters: int) -> None:
    place = 0
    for start, end in split_sentences(text, max_characters):
        assert not text[place:start].strip()
        assert place <= start < end <= start + max_characters
        assert text[start:end] == text[start:end].strip()
        place = end
    assert not text[place:].strip()


@pytest.mark.parametrize(
    "sentences",
    [
        ["Dr. Smith arrived at 3 p.m. on Jan. 5th.", "He paid $4.50 for version 2.0.1 of the tool."],
        ["Call `os.path.join(a, b)` first.", "Then run pip install foo==1.2.3, e.g. in a venv.", "See Fig. 3."],
        ["It lives in /etc/app.d/ on Linux.", "What now?", "Open it!"],
        ["Use Python >= 3.11 (i.e. not 3.9).", "The URL is https://example.com/a.b?c=d."],
        ["S. aureus and E. coli grow at 37 °C.", "We measured IL-6."],
        ["A line that\nwraps goes on.", "So does\nthis one."],
    ],
)
def test_sentences_of_technical_prose_are_told_apart(sentences: list[str]) -> None:
    assert split(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "block",
    [
        "```python\nx = 1. \n\ny = 2. Z()\n```",
        "~~~\nOne. Two.\n~~~",
        "| Name | Use. It |\n|---|---|\n| a. B | c. D |",
        "- First. It has two.\n- Second.\n  Goes on. Here.",
        "1. Boil water. Wait.\n2. Pour.",
        "# A heading. Of two",
        "A heading. Of two\n=================",
    ],
)
def test_code_tables_lists_and_headings_stay_whole(block: str) -> None:
    assert split(f"Before it.\n\n{block}\n\nAfter it.") == ["Before it.", block, "After it."]


def test_languages_without_blanks_are_split_too() -> None:
    assert split("東京は日本の首都です。人口は多い。") == ["東京は日本の首都です。", "人口は多い。"]


def test_a_giant_table_is_split_between_its_lines() -> None:
    table = "| a | b |\n|---|---|\n" + "| one | two |\n" * 30
    pieces = split(table, max_characters=100)
    assert "\n".join(pieces) == table.strip() and max(map(len, pieces)) <= 100


def test_a_giant_sentence_is_split_between_words_or_anywhere() -> None:
    assert split("one two three four", max_characters=9) == ["one two", "three", "four"]
    assert split("x" * 25, max_characters=10) == ["x" * 10, "x" * 10, "x" * 5]
