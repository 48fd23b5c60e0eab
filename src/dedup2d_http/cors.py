"""Pages of other origins: which may call the API from a browser (https://fetch.spec.whatwg.org/#cors-protocol)."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dedup2d.errors import shown
from dedup2d_http.problems import problem_response

__all__ = ["CrossOrigin"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_SENT = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-API-Key",
    "X-Request-Id",
    "traceparent",
)
_SHOWN = (
    "Allow",
    "ETag",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
)


class CrossOrigin(CORSMiddleware):
    """
    ASGI middleware that lets pages of some origins call the API; it stands before the keys are looked at.

    Cookies are never taken: whoever calls must know a key. A preflight for what is not allowed is answered
    with `CROSS_ORIGIN`.
    """

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=tuple(origins),
            allow_methods=_METHODS,
            allow_headers=_SENT,
            expose_headers=_SHOWN,
            max_age=600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                await self._preflight(scope, headers)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _preflight(self, scope: Scope, headers: Headers) -> Response:
        response = self.preflight_response(headers)
        if response.status_code < 400:
            allowed = {name: value for name, value in response.headers.items() if name in _PREFLIGHT}
            return Response(status_code=204, headers=allowed)
        method = shown(headers["access-control-request-method"], 20)
        return problem_response(
            scope,
            "CROSS_ORIGIN",
            f"pages of {shown(headers['origin'])} may not send {method} with these headers:"
            " see DEDUP2D_CORS_ORIGINS",
            {"Vary": "Origin"},
        )


_PREFLIGHT = frozenset(
    {
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-max-age",
        "vary",
    }
)
