"""Bodies as they arrive: piece by piece, not too slowly, and small ones of JSON as a whole."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.types import Receive

from dedup2d.errors import InvalidParameterError, shown
from dedup2d_http.context import ClientGoneError
from dedup2d_http.pace import Pace
from dedup2d_http.problems import HttpError

__all__ = ["Arriving", "json_object", "read_json"]


class Arriving:
    """A body that arrives; `size` counts the bytes that did."""

    def __init__(self, receive: Receive, pace: Pace) -> None:
        self.size = 0
        self._receive = receive
        self._pace = pace
        self._waited = 0.0

    async def next(self) -> tuple[bytes, bool]:
        """
        Return the next piece, and whether another one comes.

        Raises:
            HttpError: it comes too slowly.
            ClientGoneError: the connection broke.
        """
        begin = anyio.current_time()
        with anyio.move_on_after(self._pace.patience(waited=self._waited, size=self.size)):
            message = await self._receive()
            self._waited += anyio.current_time() - begin
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece = message.get("body", b"")
            self.size += len(piece)
            return piece, message.get("more_body", False)
        waited = self._waited + anyio.current_time() - begin
        complaint = self._pace.complaint(waited=waited, size=self.size)
        raise HttpError("REQUEST_TIMEOUT", f"the body {complaint}: send it again, over a faster connection")


async def read_json(request: Request, *, most: int, pace: Pace) -> bytes:
    """
    Return the body, which must be said to be JSON and have at most *most* bytes.

    Raises:
        HttpError: it is not said to be JSON, is larger, or comes too slowly.
        ClientGoneError: the connection broke.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpError(
            "UNSUPPORTED_MEDIA_TYPE", f"send JSON as application/json, not as {shown(kind) or 'nothing'}"
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    arriving, pieces, more = Arriving(request.receive, pace), bytearray(), True
    while more:
        piece, more = await arriving.next()
        pieces += piece
        if len(pieces) > most:
            raise _too_large(most)
    return bytes(pieces)


async def json_object(request: Request, *, most: int, pace: Pace) -> dict[str, Any]:
    """
    Return the JSON object that is the body.

    Raises:
        InvalidParameterError: it is none.
    and those of `read_json`.
    """
    body = await read_json(request, most=most, pace=pace)
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidParameterError("body", body[:80].decode(errors="replace"), "a JSON object") from None


def _too_large(most: int) -> HttpError:
    return HttpError("FILE_TOO_LARGE", f"the body is larger than the limit of {most:,} bytes: send less")
