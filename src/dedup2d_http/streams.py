"""Answers that stay open: how many there may be, and how they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager

import anyio
from attrs import define, field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dedup2d_http.problems import HttpError
from dedup2d_http.waiting import client_gone, unless

__all__ = ["EventStream", "Streams", "event"]

_RETRY_AFTER_SECONDS = 30


@define(kw_only=True, eq=False)
class Streams:
    """
    The answers of this process that stay open.

    Args:
        most: at once, over all tenants.
        most_per_tenant: at once of one tenant.
    """

    most: int = 500
    most_per_tenant: int = 50
    _open: Counter[str] = field(factory=Counter, init=False)

    def check(self, tenant_id: str) -> None:
        """
        Make sure that one more may be opened.

        Raises:
            HttpError: as many are open as may be.
        """
        for opened, most, whose in (
            (self._open[tenant_id], self.most_per_tenant, "of this tenant "),
            (self._open.total(), self.most, ""),
        ):
            if opened >= most:
                raise HttpError(
                    "TOO_MANY_STREAMS",
                    f"all {most} streams {whose}that may be open are: close some, or poll with Prefer: wait",
                    {"Retry-After": str(_RETRY_AFTER_SECONDS)},
                )

    @contextmanager
    def opened(self, tenant_id: str) -> Iterator[None]:
        """
        Count one more while the block runs.

        Raises:
            HttpError: as `check`.
        """
        self.check(tenant_id)
        self._open[tenant_id] += 1
        try:
            yield
        finally:
            self._open[tenant_id] -= 1
            if not self._open[tenant_id]:
                del self._open[tenant_id]


def event(name: str, data: bytes, *, identifier: str) -> bytes:
    """Return one event; *data* is JSON, which has no line ends."""
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), identifier.encode(), data)


class EventStream(Response):
    """
    An answer of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Args:
        chunks: gives its bytes; it ends with them.
        stopped: returns when it is to end before.
        streams: counts it.
        tenant_id: whose it is.
    """

    def __init__(
        self,
        chunks: Callable[[], AsyncGenerator[bytes, None]],
        *,
        stopped: Callable[[], Awaitable[None]],
        streams: Streams,
        tenant_id: str,
    ) -> None:
        super().__init__(media_type="text/event-stream")
        self._chunks = chunks
        self._stopped = stopped
        self._streams = streams
        self._tenant_id = tenant_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        with self._streams.opened(self._tenant_id):
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await unless(lambda: self._write(send), lambda: client_gone(receive), self._stopped)
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send) -> None:
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
