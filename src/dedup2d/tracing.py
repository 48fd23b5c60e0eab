"""
Who a task works for: the id of a request, and its place in a trace, handed on to whatever comes after it.

A trace is named by the header `traceparent` of W3C Trace Context (https://www.w3.org/TR/trace-context/),
version 00. `tracestate` is not handed on, as the recommendation allows.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from attrs import evolve, field, frozen

__all__ = [
    "REQUEST_ID",
    "TRACE",
    "Trace",
    "current_request_id",
    "current_traceparent",
    "outgoing_headers",
    "trace_of",
    "working_for",
]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _new_trace_id() -> str:
    return secrets.token_hex(16)


def _new_span_id() -> str:
    return secrets.token_hex(8)


@frozen(kw_only=True)
class Trace:
    """
    A place in a trace.

    Args:
        trace_id: 32 hexadecimal digits that the whole trace shares.
        span_id: 16 hexadecimal digits of this place.
        sampled: whether the caller records the trace.
    """

    trace_id: str = field(factory=_new_trace_id)
    span_id: str = field(factory=_new_span_id)
    sampled: bool = False

    @property
    def traceparent(self) -> str:
        """Return the header by which others go on from here."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

    def child(self) -> Trace:
        """Return a new place in the same trace."""
        return evolve(self, span_id=_new_span_id())


REQUEST_ID: ContextVar[str] = ContextVar("dedup2d_request_id", default="")
"""Id of the request that the current task works for, to be passed on to other servers."""

TRACE: ContextVar[Trace | None] = ContextVar("dedup2d_trace", default=None)
"""Place of the current task in its trace."""


def trace_of(traceparent: str | None) -> Trace | None:
    """Return the place that *traceparent* names, None if it is none: such a header counts as not sent."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    # Later versions may add fields; of this one they would be wrong.
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Trace(trace_id=trace_id, span_id=span_id, sampled=bool(int(flags, 16) & 1))


def current_request_id() -> str | None:
    """Return the id of the request that the current task works for; None if there is none fit to be sent."""
    request_id = REQUEST_ID.get()
    return request_id if _REQUEST_ID.fullmatch(request_id) else None


def current_traceparent() -> str | None:
    """Return the header by which others go on from the current task's place in a trace."""
    trace = TRACE.get()
    return None if trace is None else trace.traceparent


def outgoing_headers() -> dict[str, str]:
    """Return the headers that tell another server whom the current task works for."""
    headers: dict[str, str] = {}
    if request_id := current_request_id():
        headers["X-Request-Id"] = request_id
    if trace := TRACE.get():
        headers["traceparent"] = trace.child().traceparent
    return headers


@contextmanager
def working_for(request_id: str | None, traceparent: str | None) -> Iterator[Trace]:
    """
    Let the block work for a request, in a new place of its trace.

    Without *traceparent*, or with one that is malformed, a new trace begins.
    """
    caller = trace_of(traceparent)
    trace = Trace() if caller is None else caller.child()
    tokens = REQUEST_ID.set(request_id or ""), TRACE.set(trace)
    try:
        yield trace
    finally:
        REQUEST_ID.reset(tokens[0])
        TRACE.reset(tokens[1])
