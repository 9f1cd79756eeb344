"""The page at ``/``, where people try the model: one HTML file that loads nothing, so it works without the internet."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("page.html")
_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page and the headers it is sent with.

    Attributes:
        html: The page.
        headers: They allow only the page's own script and style, and only requests to its own server.
    """

    html: str
    headers: dict[str, str]


def read_page() -> Page:
    """Read the page's file, and allow its script and style by their hashes.

    Example:
        >>> "connect-src 'self'" in read_page().headers["Content-Security-Policy"]
        True
    """
    html = _FILE.read_text(encoding="utf-8")
    policy = _POLICY.format(script=_hash_content(html, "script"), style=_hash_content(html, "style"))
    return Page(
        html,
        {
            "Content-Security-Policy": policy,
            "Cache-Control": "no-cache",  # a new version of the server may have a new page
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _hash_content(html: str, tag: str) -> str:
    """The content of the page's only element of this kind, as a source of a Content-Security-Policy."""
    [content] = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
