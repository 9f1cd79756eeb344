"""A page that describes the routes. It loads nothing, so that it works without the internet."""

from __future__ import annotations

from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }}
  code {{ background: #8882; padding: .1em .3em }}
  td {{ padding: .1em 1em .1em 0; vertical-align: top }}
</style>
<h1>{title}</h1>
<p>Machines read <a href="openapi.json">openapi.json</a>.</p>
{routes}
</html>
"""


def write_api_page(schema: dict[str, Any]) -> str:
    """An HTML page of an API's routes and the fields of their bodies.

    Args:
        schema: The API's OpenAPI description.

    Example:
        >>> "<h1>Tea</h1>" in write_api_page({"info": {"title": "Tea"}, "paths": {}})
        True
    """
    routes = [
        _write_route(method, path, operation)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    return _PAGE.format(title=escape(schema["info"]["title"]), routes="\n".join(routes))


def _write_route(method: str, path: str, operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    properties = content.get("application/json", {}).get("schema", {}).get("properties", {})
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in properties.items()
    )
    summary = escape(operation.get("description", operation.get("summary", "")))
    return f"<h2><code>{method.upper()} {escape(path)}</code></h2>\n<p>{summary}</p>\n<table>{rows}</table>"
