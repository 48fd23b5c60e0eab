"""
Errors as `application/problem+json` (RFC 9457), with a stable `code`.

The one table from codes to HTTP statuses is here; every door of the API uses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Scope

from dedup2d.errors import Dedup2DError, shown

__all__ = [
    "EXCEPTION_HANDLERS",
    "METRICS_ELSEWHERE",
    "PROBLEMS",
    "HttpError",
    "Problem",
    "internal_response",
    "problem_response",
    "refusal",
]


class Problem(NamedTuple):
    """What a code means over HTTP."""

    status: int
    title: str


PROBLEMS: Mapping[str, Problem] = {
    "CALLBACK_URL_INVALID": Problem(400, "The callback URL is not allowed"),
    "EMPTY_FILE": Problem(400, "The file is empty"),
    "INVALID_GEOM_JSON": Problem(400, "The geometry of the drawing cannot be used"),
    "INVALID_MULTIPART": Problem(400, "The body is not multipart/form-data as RFC 7578 has it"),
    "INVALID_PARAMETER": Problem(400, "A parameter has a value that is not allowed"),
    "UNAUTHORIZED": Problem(401, "A valid API key is needed"),
    "CROSS_ORIGIN": Problem(403, "Web pages of other origins may not call this service"),
    "FORBIDDEN": Problem(403, "The API key is not allowed to do this"),
    "DRAWING_NOT_FOUND": Problem(404, "No such drawing"),
    "FILE_NOT_FOUND": Problem(404, "No such file"),
    "JOB_NOT_FOUND": Problem(404, "No such job"),
    "NOT_FOUND": Problem(404, "No such route"),
    "METHOD_NOT_ALLOWED": Problem(405, "The route does not have this method"),
    "REQUEST_TIMEOUT": Problem(408, "The body came too slowly"),
    "CALLBACK_CONFLICT": Problem(409, "The callback cannot be sent (again)"),
    "FILE_TOO_LARGE": Problem(413, "The file or the body is too large"),
    "UNSUPPORTED_FORMAT": Problem(415, "The file is of no format that can be read"),
    "UNSUPPORTED_MEDIA_TYPE": Problem(415, "The body is of a media type that this route does not take"),
    "HOST_NOT_ALLOWED": Problem(421, "This service does not answer to that host name"),
    "IDEMPOTENCY_CONFLICT": Problem(422, "The idempotency key belongs to another request"),
    "IMAGE_TOO_LARGE": Problem(422, "The picture is too large to be opened"),
    "UNREADABLE_DRAWING": Problem(422, "The drawing cannot be read"),
    "CALLBACK_QUEUE_FULL": Problem(429, "Too many callbacks of the tenant wait"),
    "JOB_QUEUE_FULL": Problem(429, "The job queue is full"),
    "RATE_LIMITED": Problem(429, "Too many requests"),
    "TOO_MANY_STREAMS": Problem(429, "Too many streams are open"),
    "TOO_MANY_UPLOADS": Problem(429, "Too many bodies are being received"),
    "INTERNAL": Problem(500, "Something failed that should not"),
    "WORKER_LOST": Problem(500, "The worker was lost"),
    "VISION_UNSUPPORTED": Problem(501, "The vision engine cannot do this"),
    "SHUTTING_DOWN": Problem(503, "The service is shutting down"),
    "STORE_UNAVAILABLE": Problem(503, "Jobs or files cannot be stored now"),
    "VISION_BAD_RESPONSE": Problem(502, "The vision engine gave an answer that cannot be used"),
    "VISION_REFUSED": Problem(502, "The vision engine refused the request"),
    "VISION_CIRCUIT_OPEN": Problem(503, "The vision engine is not asked for a while"),
    "VISION_UNAVAILABLE": Problem(503, "The vision engine cannot answer now"),
    "JOB_TIMEOUT": Problem(504, "The search took too long"),
    "INDEX_FULL": Problem(507, "The tenant's index is full"),
}

METRICS_ELSEWHERE = (
    "the metrics have a port of their own: ask there for /metrics (DEDUP2D_METRICS_PORT of this server)"
)
_INTERNAL_DETAIL = "something failed that should not: the log of the service says what, under this request_id"


class HttpError(Exception):
    """A request refused for a reason that only HTTP knows; *code* is one of `PROBLEMS`."""

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.code = code
        self.detail = detail
        self.headers = headers
        super().__init__(detail)


def problem_response(
    scope: Scope, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Make the response for *code*, one of `PROBLEMS`, and note the code for who counts them."""
    status, title = PROBLEMS[code]
    scope.setdefault("state", {})["problem"] = code
    body: dict[str, Any] = {
        "type": "urn:dedup2d:problem:" + code.lower().replace("_", "-"),
        "title": title,
        "status": status,
        "detail": detail,
        "instance": quote(scope.get("path", ""), safe="/:", errors="replace")[:200],
        "code": code,
        "request_id": scope.get("state", {}).get("request_id", ""),
    }
    return Response(
        msgspec.json.encode(body), status, headers=dict(headers or {}), media_type="application/problem+json"
    )


def refusal(scope: Scope, error: Dedup2DError | HttpError) -> Response:
    """Make the response for *error*; internal ones keep their message to the log."""
    if isinstance(error, HttpError):
        return problem_response(scope, error.code, error.detail, error.headers)
    if error.code == "INTERNAL":
        raise error
    retry_after = getattr(error, "retry_after", None)
    headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    return problem_response(scope, error.code, str(error), headers)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, Dedup2DError | HttpError)
    return refusal(request.scope, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer with the one error that the framework raises here: that nothing has the path."""
    assert isinstance(error, HTTPException)
    if error.status_code != 404:
        raise error
    return problem_response(request.scope, "NOT_FOUND", f"there is no route {shown(request.scope['path'])}")


EXCEPTION_HANDLERS: Mapping[Any, ExceptionHandler] = {
    Dedup2DError: _on_error,
    HttpError: _on_error,
    HTTPException: _on_http_exception,
}
"""For Starlette."""


def internal_response(scope: Scope) -> Response:
    """Make the response for an error that nobody expected: what it was stands in the log only."""
    return problem_response(scope, "INTERNAL", _INTERNAL_DETAIL)
