"""Links that work in the repository work on the site too: those to files outside docs/ lead to the repository.

Pictures from benchmarks/results become files of the site, so that it can be read without a network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_PICTURE = re.compile(r"\]\(\.\./benchmarks/results/([\w.-]+\.png)\)")
_OUTSIDE = re.compile(r"\]\(\.\./([^)]+)\)")


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
