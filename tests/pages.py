"""The Python blocks of README and docs: find them, run them, and write down what they print.

    python -m tests.pages

runs every block that shows its output and writes the new output into the page, after a change of the model or of what
the library prints. A block whose output is shown is followed by a fence of ``text``. A block that cannot run offline
stands below a comment, ``<!-- not run: needs Ray -->``, which names what it needs; it is only compiled.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(
    r"(?:<!-- not run: needs (?P<needs>[^>]+) -->\n)?```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<output>.*?)^```$)?",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A Python block of a page.

    Attributes:
        page: The page's path.
        line: The line of its first statement.
        code: The code.
        needs: What it needs to run that the tests do not have, or None.
        output: What the page says it prints, or None.
    """

    page: Path
    line: int
    code: str
    needs: str | None
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_blocks(page: Path) -> Iterator[Block]:
    """The Python blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        yield Block(page, line, match["code"], match["needs"], match["output"])


def run(block: Block) -> str:
    """Run a block on its own and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.chdir(ROOT):
        # Line numbers of the page, so that a traceback leads to it.
        exec(compile("\n" * (block.line - 1) + block.code, str(block.page), "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def with_new_outputs(page: Path) -> str:
    """A page's text with the output that its blocks print now."""
    text = page.read_text(encoding="utf-8")
    for block in read_blocks(page):
        if block.output is not None and block.needs is None:
            before = f"{block.code}```\n\n```text\n"
            text = text.replace(f"{before}{block.output}```", f"{before}{run(block)}```", 1)
    return text


def main() -> None:
    """Write new outputs into all pages."""
    for page in PAGES:
        page.write_text(with_new_outputs(page), encoding="utf-8")


if __name__ == "__main__":
    main()
