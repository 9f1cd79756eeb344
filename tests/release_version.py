"""Refuse a release whose tag, package version and newest changelog entry differ.

python tests/release_version.py 0.2.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def versions() -> dict[str, str]:
    """The version that the package says, and the newest one of the changelog."""
    package = (ROOT / "gliclass_rerank" / "__init__.py").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    places = {
        "gliclass_rerank/__init__.py": re.search(r'^__version__ = "([^"]+)"', package, re.MULTILINE),
        # With its date: an entry that says (unreleased) is not finished.
        "CHANGELOG.md": re.search(r"^## ([^\s]+ \(unreleased\)|[^\s]+)", changelog, re.MULTILINE),
    }
    return {place: match[1] if match else "none" for place, match in places.items()}


def main() -> None:
    [tag] = sys.argv[1:]
    different = {place: version for place, version in versions().items() if version != tag}
    if different:
        sys.exit(f"the tag says {tag}, but {different}")
    print(f"{tag} is released")


if __name__ == "__main__":
    main()
