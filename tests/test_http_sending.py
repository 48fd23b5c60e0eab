"""Answers to clients that take them slowly."""

from __future__ import annotations

import socket
import struct
import tempfile
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from dedup2d_http.connections import cut_connection, listen
from dedup2d_http.context import ClientGoneError
from dedup2d_http.pace import Pace
from dedup2d_http.sending import Sending

CLIENT = ("127.0.0.1", 1)
BODY = bytes(range(256)) * 1000


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with as many bytes as the path says."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": BODY[: int(scope["path"])]})


class Network:
    """A server whose clients take nothing once it is stuck."""

    def __init__(self, *, stuck_after: float = 1e9) -> None:
        self.messages: list[Message] = []
        self.cut: list[Any] = []
        self.stuck_after = stuck_after

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if len(self.messages) > self.stuck_after:
            await anyio.sleep_forever()

    async def answer(self, sending: Sending, size: int) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await sending({"type": "http", "path": str(size), "client": CLIENT}, receive, self.send)


def sending(network: Network, *, max_unsent_bytes: int = 10**9, **pace: float) -> Sending:
    return Sending(app, pace=Pace(**pace), max_unsent_bytes=max_unsent_bytes, cut=network.cut.append)


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, len(BODY)])
async def test_answers_are_whole(size: int) -> None:
    """If this fails, large answers arrive cut off, doubled or out of order."""
    network = Network()
    await network.answer(sending(network), size)
    pieces = network.messages[1:]

    assert b"".join(piece["body"] for piece in pieces) == BODY[:size]
    assert [piece.get("more_body", False) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert all(len(piece["body"]) <= 64 * 1024 for piece in pieces)
    assert network.cut == []


async def test_a_client_that_takes_nothing_is_cut() -> None:
    """If this fails, whoever asks and never reads fills the memory with answers."""
    network = Network(stuck_after=2)
    with pytest.raises(ClientGoneError):
        await network.answer(sending(network, idle_seconds=0.05), len(BODY))

    assert network.cut == [CLIENT]


async def test_those_that_waited_longest_make_room() -> None:
    """If this fails, many slow clients together hold more memory than the service may have."""
    stuck = [Network(stuck_after=2), Network(stuck_after=2)]
    quick = Network()
    shared = sending(quick, max_unsent_bytes=2 * len(BODY))

    async def lose(network: Network) -> None:
        with pytest.raises(ClientGoneError):
            await network.answer(shared, len(BODY))
        lost.append(network)

    lost: list[Network] = []
    async with anyio.create_task_group() as tasks:
        for network in stuck:
            tasks.start_soon(lose, network)
            await anyio.sleep(0.05)
        await quick.answer(shared, len(BODY))
        assert lost == []  # nobody has waited for a second yet
        await anyio.sleep(1.1)
        await quick.answer(shared, len(BODY))
        await anyio.sleep(0.05)
        assert lost == stuck[:1]
        tasks.cancel_scope.cancel()

    assert b"".join(message["body"] for message in quick.messages if "body" in message) == BODY * 2


def test_cutting_closes_one_connection() -> None:
    """If this fails, a client that was given up keeps its connection, or another one loses its own."""
    with listen("127.0.0.1", 0) as listener:
        listener.setblocking(True)
        listener.listen()
        ends = [socket.create_connection(listener.getsockname(), timeout=5) for _ in range(2)]
        with ends[0], ends[1], listener.accept()[0] as first, listener.accept()[0] as second:
            cut_connection(ends[0].getsockname())
            second.sendall(b"x")

            assert ends[0].recv(1) == b""
            assert ends[1].recv(1) == b"x"
            assert first.recv(1) == b""


def test_cutting_leaves_no_file_open() -> None:
    """If this fails, some slow clients make a service run out of files."""
    before = open_files()
    with tempfile.TemporaryFile():  # a file that is no socket, for one
        cut_connection(CLIENT)

    assert open_files() <= before


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_the_kernel_closes_connections_that_nobody_reads() -> None:
    """If this fails, the last answer of a connection can be held for ever by not reading it."""
    with listen("127.0.0.1", 0) as listener:
        listener.setblocking(True)
        listener.listen()
        with (
            socket.create_connection(listener.getsockname(), timeout=5) as client,
            listener.accept()[0] as connection,
        ):
            timeout = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            unsent = struct.unpack(
                "I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 4)
            )

            assert (timeout, unsent) == (30_000, (128 * 1024,))
            assert client.getpeername() == connection.getsockname()
