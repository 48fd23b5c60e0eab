"""Refusals that come before the body was read."""

from __future__ import annotations

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from dedup2d_http.lingering import Lingering


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after as many pieces of the body as the path says."""
    for _ in range(int(scope["path"])):
        await receive()
    await send({"type": "http.response.start", "status": 400, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def received(path: str, headers: list[tuple[bytes, bytes]], messages: list[Message]) -> int:
    """Make a request whose body comes as *messages*, and return how many were taken."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        if taken == len(messages):
            await anyio.sleep_forever()
        taken += 1
        return messages[taken - 1]

    async def send(_: Message) -> None: ...

    with anyio.fail_after(5):
        await Lingering(app, seconds=0.05)({"type": "http", "path": path, "headers": headers}, receive, send)
    return taken


PIECE: Message = {"type": "http.request", "body": b"x", "more_body": True}
LAST: Message = {"type": "http.request", "body": b"x", "more_body": False}
GONE: Message = {"type": "http.disconnect"}
LENGTH = [(b"content-length", b"4")]


@pytest.mark.parametrize(
    ("path", "headers", "messages", "taken"),
    [
        ("0", LENGTH, [PIECE, PIECE, LAST, GONE], 3),
        ("1", LENGTH, [PIECE, PIECE, LAST, GONE], 3),
        ("3", LENGTH, [PIECE, PIECE, LAST, GONE], 3),
        ("0", [(b"transfer-encoding", b"chunked")], [PIECE, GONE], 2),
        ("0", LENGTH, [PIECE, PIECE], 2),
        ("0", [], [GONE], 0),
        ("0", [(b"content-length", b"0")], [GONE], 0),
    ],
)
async def test_the_rest_of_a_body_is_dropped(
    path: str, headers: list[tuple[bytes, bytes]], messages: list[Message], taken: int
) -> None:
    """If this fails, refusals of large uploads are lost on their way, or a slow client holds a connection."""
    assert await received(path, headers, messages) == taken
