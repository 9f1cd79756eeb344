"""README and docs say what is so: their code runs, prints what they show, and their links lead somewhere."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from gliclass_rerank import GLiClassReranker
from tests.pages import PAGES, README, ROOT, Block, read_blocks, run

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
_NUMBER = re.compile(r"\d+\.\d+")
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture(autouse=True, scope="module")
def loaded_model(bundled: GLiClassReranker) -> Iterator[None]:
    """Keep the weights in memory, so that each block loads them in no time, and undo what blocks do to logging."""
    yield
    logging.getLogger("gliclass_rerank").setLevel(logging.NOTSET)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 180


def test_few_blocks_need_what_the_tests_do_not_have() -> None:
    assert len(BLOCKS) >= 30
    assert sum(block.needs is not None for block in BLOCKS) <= len(BLOCKS) / 4


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs_and_prints_what_the_page_shows(block: Block) -> None:
    if block.needs is not None:
        compile(block.code, str(block), "exec")
        return
    printed = run(block)
    if block.output is None:
        assert printed == "", "show the output in a fence of text below the block"
        return
    # The last digit of a score depends on the processor; everything else has to be equal.
    assert _NUMBER.sub("#", printed) == _NUMBER.sub("#", block.output), "make pages writes the new output"
    scores, shown = (list(map(float, _NUMBER.findall(text))) for text in (printed, block.output))
    assert scores == pytest.approx(shown, abs=0.002), "make pages writes the new output"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "examples/corpus/README.md"], ids=str)
def test_links_to_files_lead_somewhere(page) -> None:
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
