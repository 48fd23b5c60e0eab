"""
What the methods of the routes promise: written beside each handler, read by the OpenAPI document.

    @operation("Cancel a job", answers=[Answer(200, CancelView, "done")], problems=["JOB_NOT_FOUND"])
    async def cancel(api: Api, request: Request) -> Response: ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from attrs import field, frozen
from starlette.requests import Request
from starlette.responses import Response

from dedup2d_http.params import Reader

__all__ = [
    "DRAWING",
    "DRAWING_PROBLEMS",
    "ETAG",
    "GEOM_JSON",
    "IF_NONE_MATCH",
    "JSON_PROBLEMS",
    "UNCHANGED",
    "UPLOAD_PROBLEMS",
    "VISION_PROBLEMS",
    "Answer",
    "Documented",
    "Header",
    "Operation",
    "Part",
    "operation",
    "operation_of",
]

A = TypeVar("A")

UPLOAD_PROBLEMS = (
    "EMPTY_FILE",
    "FILE_TOO_LARGE",
    "INVALID_MULTIPART",
    "REQUEST_TIMEOUT",
    "TOO_MANY_UPLOADS",
    "UNSUPPORTED_FORMAT",
    "UNSUPPORTED_MEDIA_TYPE",
)
"""What may be wrong with a body that has a drawing."""

DRAWING_PROBLEMS = ("IMAGE_TOO_LARGE", "UNREADABLE_DRAWING")
"""What may be found when the drawing is opened."""

JSON_PROBLEMS = ("FILE_TOO_LARGE", "REQUEST_TIMEOUT", "TOO_MANY_UPLOADS", "UNSUPPORTED_MEDIA_TYPE")
"""What may be wrong with a body of JSON, besides its values."""

VISION_PROBLEMS = (
    "JOB_TIMEOUT",
    "VISION_BAD_RESPONSE",
    "VISION_CIRCUIT_OPEN",
    "VISION_REFUSED",
    "VISION_UNAVAILABLE",
    "VISION_UNSUPPORTED",
)
"""What may go wrong when the engine is asked while the client waits."""


@frozen
class Answer:
    """
    One way in which a method answers.

    Args:
        status: of HTTP.
        shape: an attrs class, or the JSON Schema of the body; None if it has none.
        text: when it comes, in a few words.
        headers: names and meaning of its headers, besides those that every answer has.
        media_type: of the body.
    """

    status: int
    shape: type | Mapping[str, Any] | None
    text: str
    headers: Mapping[str, str] = field(factory=dict, kw_only=True)
    media_type: str = field(default="application/json", kw_only=True)


@frozen
class Header:
    """A request header that steers the method: its name, what it does, and the JSON Schema of its value."""

    name: str
    text: str
    schema: Mapping[str, Any] = field(factory=lambda: {"type": "string"})


@frozen
class Part:
    """A part of a multipart body: its name, what it is, and the JSON Schema of its value."""

    name: str
    text: str
    schema: Mapping[str, Any] = field(factory=lambda: {"type": "string"})
    required: bool = field(default=False, kw_only=True)
    media_type: str | None = field(default=None, kw_only=True)


DRAWING = Part("file", "the drawing", required=True, media_type="application/octet-stream")
GEOM_JSON = Part(
    "geom_json",
    "the drawing's geometry: v2 geometry JSON of at most 10 MiB",
    {"type": "object"},
    media_type="application/json",
)
IF_NONE_MATCH = Header("If-None-Match", "the ETag of an earlier answer: 304 if nothing has changed since")
ETAG = {"ETag": "changes whenever the answer does"}
UNCHANGED = Answer(304, None, "nothing has changed since", headers={"ETag": "the same again"})


@frozen(kw_only=True)
class Operation:
    """
    What one method of a route does.

    Args:
        summary: one line, beginning with a verb.
        answers: how it answers when all is well.
        text: what else a client should know.
        query: the very readers that `read_query` is given.
        required: parameters of the query that must be given.
        headers: request headers that steer it.
        body: the parts of its multipart body, if it takes one.
        json: the JSON Schema of its body as JSON, if it takes that.
        body_required: whether it cannot be called without that body.
        problems: codes of `PROBLEMS` besides those that every route may answer with.

    What a key must be allowed stands in the `Resource`.
    """

    summary: str
    answers: Sequence[Answer]
    text: str = ""
    query: Mapping[str, Reader] = field(factory=dict)
    required: Sequence[str] = ()
    headers: Sequence[Header] = ()
    body: Sequence[Part] = ()
    json: Mapping[str, Any] | None = None
    body_required: bool = True
    problems: Sequence[str] = ()


@frozen
class Documented(Generic[A]):
    """A handler with what it promises."""

    handler: Callable[[A, Request], Awaitable[Response]]
    operation: Operation

    async def __call__(self, api: A, request: Request) -> Response:
        return await self.handler(api, request)


def operation(
    summary: str, *, answers: Sequence[Answer], **more: Any
) -> Callable[[Callable[[A, Request], Awaitable[Response]]], Documented[A]]:
    """Return a decorator that gives a handler its `Operation`, whose arguments these are."""
    promised = Operation(summary=summary, answers=answers, **more)

    def decorate(handler: Callable[[A, Request], Awaitable[Response]]) -> Documented[A]:
        return Documented(handler, promised)

    return decorate


def operation_of(handler: object) -> Operation | None:
    """Return what *handler* promises, None if nothing was written down."""
    return handler.operation if isinstance(handler, Documented) else None
