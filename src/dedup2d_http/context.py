"""
What every request gets: an id, a line in the log, safe headers, and an answer whatever happens.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dedup2d.errors import shown
from dedup2d.tracing import working_for
from dedup2d_http.lingering import has_body
from dedup2d_http.problems import internal_response, problem_response
from dedup2d_http.stopping import Stopping

__all__ = ["ClientGoneError", "RequestContext"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_QUIET = frozenset({"/livez", "/readyz", "/health", "/metrics"})

log = structlog.get_logger("dedup2d.http")


class ClientGoneError(Exception):
    """The client closed the connection: nobody is left to answer."""


def new_request_id() -> str:
    return uuid4().hex


class RequestContext:
    """
    ASGI middleware around all others.

    A client's `X-Request-Id` is kept if it is 1 to 64 of `A-Z a-z 0-9 . _ -`, else one is made. So with its
    `traceparent` (W3C Trace Context), of which this service's place is a child.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        stopping: Stopping,
        clock: Callable[[], float] = time.perf_counter,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        self._app = app
        self._stopping = stopping
        self._clock = clock
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._request_id(scope))
        # A copy: some servers hand the same state to every request.
        scope["state"] = {**scope.get("state", {}), "request_id": exchange.request_id}
        begin = self._clock()
        with working_for(exchange.request_id, _traceparent(scope)):
            try:
                await self._answer(scope, exchange)
            finally:
                _log_line(scope, None if exchange.client_gone else exchange.status, self._clock() - begin)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            with self._stopping.request() as cut:
                await self._app(scope, exchange.receive, exchange.send)
            if cut.cancelled_caught and exchange.status is None:
                await _stopped(scope)(scope, exchange.receive, exchange.send)
        except ClientGoneError:
            exchange.client_gone = scope["state"]["client_gone"] = True
            if exchange.status is None:
                # Malformed chunks look the same from here; a server that is told nothing answers 500.
                await _broken_off(scope)(scope, exchange.receive, exchange.send)
        except Exception:
            log.exception("request failed", method=scope["method"], path=shown(scope["path"], 200))
            if exchange.status is not None:
                raise  # half an answer is out: only closing the connection tells the client
            await internal_response(scope)(scope, exchange.receive, exchange.send)

    def _request_id(self, scope: Scope) -> str:
        given = Headers(scope=scope).get("x-request-id", "")
        return given if _REQUEST_ID.fullmatch(given) else self._new_id()


def _traceparent(scope: Scope) -> str | None:
    given = Headers(scope=scope).getlist("traceparent")
    return given[0] if len(given) == 1 else None


class _Exchange:
    """One request and its answer, as they pass by."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.request_id = request_id
        self.status: int | None = None
        self.client_gone = False
        self._receive = receive
        self._send = send
        self._head = scope["method"] == "HEAD"
        self._http1 = scope.get("http_version", "1.1").startswith("1")
        self._body_left = has_body(scope)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._body_left = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            raw = list(message.get("headers", ()))
            self._add_headers(MutableHeaders(raw=raw))
            message = {**message, "headers": raw}
        elif self._head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    def _add_headers(self, headers: MutableHeaders) -> None:
        for name, value in _SAFE_HEADERS.items():
            headers.setdefault(name, value)
        headers["X-Request-Id"] = self.request_id
        if self._body_left and self._http1:
            # The rest of the body will not be read, so the connection cannot carry another request.
            headers["Connection"] = "close"


def _stopped(scope: Scope) -> Response:
    return problem_response(
        scope, "SHUTTING_DOWN", "the service stops before it could answer: try again", {"Retry-After": "5"}
    )


def _broken_off(scope: Scope) -> Response:
    return problem_response(scope, "INVALID_MULTIPART", "the body broke off or is malformed: send it again")


def _log_line(scope: Scope, status: int | None, seconds: float) -> None:
    fields: dict[str, Any] = {
        "method": shown(scope["method"], 20),
        "path": shown(scope["path"], 200),
        "status": status if status is not None else "client gone",
        "duration_ms": round(seconds * 1000, 1),
        "tenant": getattr(scope["state"].get("principal"), "tenant_id", None),
    }
    write = log.debug if scope["path"] in _QUIET else log.info
    write("request", **fields)
