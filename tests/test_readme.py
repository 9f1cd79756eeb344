"""The README's blocks run and print what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n((?:(?!```).)*)```\n\n```text\n((?:(?!```).)*)```", README, flags=re.DOTALL)
_NUMBER = re.compile(r"\d\.\d+")


def test_there_are_blocks_with_output() -> None:
    assert len(BLOCKS) >= 9


@pytest.mark.parametrize(("code", "output"), BLOCKS, ids=lambda value: value.strip().splitlines()[-1][:40])
def test_a_block_prints_what_the_readme_says(code: str, output: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    # Scores differ a little between bf16 and fp32; the rest is equal.
    assert _NUMBER.sub("#", printed.getvalue()) == _NUMBER.sub("#", output)
    scores, expected = (list(map(float, _NUMBER.findall(text))) for text in (printed.getvalue(), output))
    assert scores == pytest.approx(expected, abs=0.01)
