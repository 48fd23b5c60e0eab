"""Answers that arrive although their request was not read to its end."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Lingering", "has_body"]


class Lingering:
    """
    ASGI middleware next to the server: after an early answer, takes in and drops what is still being sent.

    A connection that is closed with bytes unread is reset, and the client may lose the answer (RFC 9112,
    9.6): a refusal would look like an outage, and be tried again and again.

    Args:
        app: the app.
        seconds: how long a client may take to see the answer and stop.
    """

    def __init__(self, app: ASGIApp, *, seconds: float = 2.0) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        more = True

        async def noted() -> Message:
            nonlocal more
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
            return message

        await self._app(scope, noted, send)
        with anyio.move_on_after(self._seconds):
            while more and has_body(scope):
                await noted()


def has_body(scope: Scope) -> bool:
    """Whether a body was announced: without one there may be nothing to receive."""
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
