"""Requests to other servers: what both clients, of a service and of a vision server, have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dedup2d.client import ClientOptions, Dedup2DClient
from dedup2d.errors import DrawingNotFoundError, ServiceUnreachableError, VisionUnavailableError
from dedup2d.vision.http import HTTPVisionClient, VisionOptions

EMPTY_PAGE = b'{"drawings":[],"total":0}'
PROBLEM = b'{"code":"DRAWING_NOT_FOUND","detail":"drawing d is not in the index"}'


class Server:
    """
    A server on loopback that keeps connections open, and closes those on which *breaks_at* comes.

    *refuses* are the requests that are answered with a problem, in two pieces.
    """

    def __init__(self, *, breaks_at: str = "", refuses: str = "") -> None:
        self.breaks_at = breaks_at
        self.refuses = refuses
        self.seen: list[str] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method = head.decode().partition(" ")[0]
                self.seen.append(method)
                if method == self.breaks_at:
                    break
                await self._answer(writer, refuse=method == self.refuses)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, *, refuse: bool) -> None:
        status, body = ("404 Not Found", PROBLEM) if refuse else ("200 OK", EMPTY_PAGE)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for part in (body[:9], body[9:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05 if refuse else 0)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_a_removal_on_a_kept_connection_that_breaks_is_sent_once() -> None:
    """If this fails, a removal that worked is told as one of a drawing that was not there."""
    vision, service = Server(breaks_at="DELETE"), Server(breaks_at="DELETE")
    async with serving(vision) as url, HTTPVisionClient(VisionOptions(url=url)) as client:
        await client.drawings("acme")
        with pytest.raises(VisionUnavailableError):
            await client.remove("acme", "d")
    async with serving(service) as url, Dedup2DClient(ClientOptions(url=url)) as other:
        await other.drawing_page()
        with pytest.raises(ServiceUnreachableError):
            await other.remove("d")

    for server in (vision, service):
        assert server.seen == ["GET", "DELETE"]
        assert server.connections == 1


async def test_reading_is_tried_as_often_as_the_options_say() -> None:
    """If this fails, a server in trouble gets more requests than anybody counts."""
    vision, service = Server(breaks_at="GET"), Server(breaks_at="GET")
    async with serving(vision) as url, HTTPVisionClient(VisionOptions(url=url, retry_attempts=1)) as client:
        with pytest.raises(VisionUnavailableError):
            await client.drawings("acme")
    async with serving(service) as url, Dedup2DClient(ClientOptions(url=url, attempts=1)) as other:
        with pytest.raises(ServiceUnreachableError):
            await other.drawing_page()

    assert (vision.seen, service.seen) == (["GET"], ["GET"])


async def test_a_refusal_that_comes_in_pieces_is_read_as_a_whole() -> None:
    """If this fails, it depends on the network whether callers learn why they were refused."""
    server = Server(refuses="GET")
    async with serving(server) as url:
        async with HTTPVisionClient(VisionOptions(url=url)) as client:
            with pytest.raises(DrawingNotFoundError):
                await client.drawing("acme", "d")
        async with Dedup2DClient(ClientOptions(url=url)) as other:
            with pytest.raises(DrawingNotFoundError):
                await other.drawing("d")
