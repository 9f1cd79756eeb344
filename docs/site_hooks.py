"""What mkdocs needs beyond its options, so that the same pages read well in the repository and on the site.

- Links to files outside docs/ lead to the repository, and pictures of benchmarks/results become files of the site.
- The docstrings' ``Example:`` sections are shown as code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

_PICTURE = re.compile(r"\]\(\.\./benchmarks/results/([\w.-]+\.png)\)")
_OUTSIDE = re.compile(r"\]\(\.\./([^)]+)\)")
_EXAMPLE = re.compile(r"^( *)Example:$", flags=re.MULTILINE)


def on_files(files: Files, config: Any, **_: Any) -> Files:  # noqa: ANN401 - as mkdocs calls it
    """Add the pictures of the results."""
    root = Path(config["config_file_path"]).parent
    for picture in (root / "benchmarks" / "results").glob("*.png"):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:  # noqa: ANN401 - as mkdocs calls it
    """Rewrite links that leave docs/."""
    markdown = _PICTURE.sub(r"](results/\1)", markdown)
    return _OUTSIDE.sub(rf"]({config['repo_url']}/blob/main/\1)", markdown)


class ExampleSections(griffe.Extension):
    """Name the section ``Examples:``, as griffe expects it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401 - as griffe calls it
        """Rename the section of one docstring."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
