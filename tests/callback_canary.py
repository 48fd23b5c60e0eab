"""
What the tests of the callback guard dial: a recorder, and two real servers on loopback.

No test dials anything but loopback. Every dial is recorded; one for the canary is really made, one for an
address of `PUBLIC` is made to the receiver in its place, and any other ends as refused there and then.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp import web

PUBLIC = ("93.184.216.34", "1.1.1.1", "2606:2800:220:1:248:1893:25c8:1946")
"""Addresses of strangers: the tests make sure that no packet goes there."""

NAMES = {
    "localhost": ["127.0.0.1"],
    "foo.localhost": ["127.0.0.1"],
    "localhost.localdomain": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "public.example": ["93.184.216.34"],
    "one-is-private.example": ["93.184.216.34", "10.0.0.1"],
}

_numeric = socket.getaddrinfo


def offline_getaddrinfo(host: str, port: Any, *args: Any, **options: Any) -> Any:
    """Resolve as the C library does, all old spellings of addresses included, but ask no name server."""
    family = options.get("family", args[0] if args else 0)
    found = []
    for address in NAMES.get(host.lower().rstrip("."), [host]):
        found += _numeric(address, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return found


def is_loopback(host: str) -> bool:
    address = ip_address(host)
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_loopback or inner.is_unspecified


class Server:
    """Counts who reaches it."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.redirect_to = ""
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.reached.append(f"{request.host} {request.raw_path}")
        if self.redirect_to:
            return web.Response(status=307, headers={"Location": self.redirect_to})
        return web.Response(text="reached")

    async def start(self, stack: AsyncExitStack) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]


class Dials:
    """All dials, a canary that none may reach, and a receiver that stands for all public addresses."""

    def __init__(self) -> None:
        self.canary = Server()
        self.receiver = Server()
        self.made: list[tuple[str, int]] = []

    @property
    def inside(self) -> list[tuple[str, int]]:
        """The dials that should not have been made."""
        return [(host, port) for host, port in self.made if host not in PUBLIC]

    def record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dial = BaseSelectorEventLoop.sock_connect

        async def sock_connect(loop: Any, sock: socket.socket, address: Any) -> None:
            host, port = address[:2]
            self.made.append((host, port))
            if host in PUBLIC:
                receiver = "::ffff:127.0.0.1" if ":" in host else "127.0.0.1"
                await dial(loop, sock, (receiver, self.receiver.port))
            elif port == self.canary.port and is_loopback(host):
                await dial(loop, sock, address)
            else:
                raise ConnectionRefusedError(111, "recorded, not dialled")

        monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", sock_connect)
        monkeypatch.setattr(socket, "getaddrinfo", offline_getaddrinfo)


@asynccontextmanager
async def recorded_dials(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Dials]:
    """Start the servers, then put the recorder before every dial."""
    assert isinstance(asyncio.get_running_loop(), BaseSelectorEventLoop)
    dials = Dials()
    async with AsyncExitStack() as stack:
        await dials.canary.start(stack)
        await dials.receiver.start(stack)
        dials.record(monkeypatch)
        yield dials
