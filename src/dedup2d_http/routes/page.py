"""The page at the root: says what this is and lists the routes."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from dedup2d_http.contract import Answer, operation
from dedup2d_http.routing import PREFIX, Api, Resource

__all__ = ["page_of"]


def page_of(resources: Iterable[Resource[Api]]) -> Resource[Api]:
    """Return the root, whose page lists *resources*."""
    lines = "\n".join(f"{', '.join(sorted(each.methods)):<17} {escape(each.path)}" for each in resources)
    text = _PAGE.format(version=escape(version("dedup2d")), lines=lines, prefix=PREFIX)

    @operation(
        "Show a page that says what this is",
        answers=[Answer(200, {"type": "string"}, "the page", media_type="text/html")],
    )
    async def page(_: Api, __: Request) -> Response:
        return Response(text, media_type="text/html")

    return Resource("/", {"GET": page}, None)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>dedup2d</title></head>
<body><h1>dedup2d {version}</h1>
<p>Have we drawn this before, and if so what changed?
Send a drawing, get the drawings that are related to it.</p>
<pre>{lines}</pre>
<p>Errors are application/problem+json with a stable code.
What lies under {prefix} needs an API key, where the service was started with keys.</p>
<p>All of it in detail: <a href="docs">docs</a>; for programs: <a href="openapi.json">openapi.json</a></p>
</body></html>
"""
