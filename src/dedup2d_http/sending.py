"""Answers that clients take slowly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import structlog
from attrs import define, field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dedup2d_http.connections import cut_connection
from dedup2d_http.context import ClientGoneError
from dedup2d_http.pace import Pace

__all__ = ["Sending"]

_PIECE_BYTES = 64 * 1024
_MAX_UNSENT_BYTES = 128 * 1024 * 1024
_QUICK_SECONDS = 1.0

Client = tuple[str, int] | None

log = structlog.get_logger("dedup2d.http")


class Sending:
    """
    ASGI middleware next to the server: hands answers over in pieces, and cuts clients that do not take them.

    Whole, an answer would lie in the server until the client has read it, however long that takes: a few
    hundred clients that ask for results and read nothing would fill the memory.

    Args:
        app: the app.
        pace: how slow a client may be.
        max_unsent_bytes: most bytes of answers that wait at once; beyond, those are cut that have waited
            longest, if that was a second or more.
        cut: closes the connection with a client.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        pace: Pace | None = None,
        max_unsent_bytes: int = _MAX_UNSENT_BYTES,
        cut: Callable[[Client], None] = cut_connection,
    ) -> None:
        self._app = app
        self._pace = pace or Pace()
        self._max_unsent_bytes = max_unsent_bytes
        self._cut = cut
        self._answers: set[_Answer] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send=send, pace=self._pace)

        async def watched(message: Message) -> None:
            self._make_room(len(message.get("body", b"")))
            self._answers.add(answer)
            if await answer.pass_on(message):
                return
            log.info("client cut: it does not take its answer", unsent_bytes=answer.unsent)
            self._cut(scope.get("client"))
            raise ClientGoneError

        try:
            await self._app(scope, receive, watched)
        finally:
            self._answers.discard(answer)

    def _make_room(self, size: int) -> None:
        if size <= _PIECE_BYTES:
            return
        excess = sum(answer.unsent for answer in self._answers) + size - self._max_unsent_bytes
        latest = anyio.current_time() - _QUICK_SECONDS
        waiting = [answer for answer in self._answers if answer.unsent and answer.since <= latest]
        for answer in sorted(waiting, key=lambda answer: answer.since):
            if excess <= 0:
                return
            excess -= answer.unsent
            answer.give_up()


@define(eq=False, kw_only=True)
class _Answer:
    """One answer on its way; `unsent` bytes of it have waited since `since`."""

    send: Send
    pace: Pace
    unsent: int = field(default=0, init=False)
    since: float = field(default=0.0, init=False)
    _sent: int = field(default=0, init=False)
    _waited: float = field(default=0.0, init=False)
    _scope: anyio.CancelScope | None = field(default=None, init=False)

    async def pass_on(self, message: Message) -> bool:
        """Hand *message* over in pieces; whether the client took it, or the server has room for it."""
        self.unsent = len(message.get("body", b""))
        for piece in _pieces(message):
            self.since = anyio.current_time()
            patience = self.pace.patience(waited=self._waited, size=self._sent)
            taken = False
            with anyio.move_on_after(patience) as self._scope:
                await self.send(piece)
                taken = True
            self._waited += anyio.current_time() - self.since
            if not taken:
                return False
            self._sent += len(piece.get("body", b""))
            self.unsent -= len(piece.get("body", b""))
        return True

    def give_up(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


def _pieces(message: Message) -> Iterator[Message]:
    body = message.get("body", b"")
    for start in range(0, max(1, len(body)), _PIECE_BYTES):
        piece = body[start : start + _PIECE_BYTES]
        more = message.get("more_body", False) or start + _PIECE_BYTES < len(body)
        yield message if len(body) <= _PIECE_BYTES else {**message, "body": piece, "more_body": more}
