"""A receiver of callbacks on loopback that does what tests tell it to, and what it received."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import trustme
from aiohttp import web
from attrs import define, field, frozen

from dedup2d.callbacks.attempts import CallbackOptions
from dedup2d.callbacks.guard_url import GuardOptions
from dedup2d.callbacks.signing import CallbackSecrets

__all__ = ["SECRET", "Received", "Receiver", "options_for", "receiving"]

SECRET = "whsec_" + "c2VjcmV0IG9mIGNhbGxiYWNrcyBpbiB0ZXN0cw=="

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@frozen
class Received:
    """One request that came in whole."""

    headers: dict[str, str]
    body: bytes
    path: str

    @property
    def payload(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


@define
class Receiver:
    """Answers 204, or by what is in `behaviours`, one for each request."""

    base: str
    port: int
    received: list[Received] = field(factory=list)
    behaviours: list[Behaviour] = field(factory=list)
    redirected: int = 0
    open: Callable[[], Awaitable[None]] | None = None
    close: Callable[[], Awaitable[None]] | None = None

    @property
    def url(self) -> str:
        return f"{self.base}/hook?token=of-the-receiver"

    @property
    def message_ids(self) -> set[str]:
        return {each.message_id for each in self.received}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/elsewhere":
            self.redirected += 1
            return web.Response(status=204)
        self.received.append(Received(dict(request.headers), await request.read(), request.path_qs))
        behaviour = self.behaviours.pop(0) if self.behaviours else answering(204)
        return await behaviour(request)

    async def wait_for(self, number: int, seconds: float = 20.0) -> None:
        """Wait until so many requests have come."""
        with anyio.fail_after(seconds):
            while len(self.received) < number:  # noqa: ASYNC110 - requests come from outside
                await anyio.sleep(0.02)


def answering(status: int, **headers: str) -> Behaviour:
    async def answer(_: web.Request) -> web.StreamResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, headers=given)

    return answer


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(600)
    return web.Response()


def endless(status: int = 200) -> Behaviour:
    """Answer without end; see what the client took of it in `endless.sent`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            sent.append(65_536)

    sent: list[int] = []
    answer.sent = sent  # type: ignore[attr-defined]  # noted on the function itself
    return answer


async def dropping(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def babbling(request: web.Request) -> web.StreamResponse:
    """Answer with something that is not HTTP."""
    assert request.transport is not None
    request.transport.write(b"\x00\xff<script>secret\r\n" * 100)
    request.transport.close()
    return web.Response()


async def _listen(receiver: Receiver, runner: web.AppRunner, tls: ssl.SSLContext | None) -> None:
    """Let the receiver be there, and go and come back on the same port."""
    sites: list[web.TCPSite] = []

    async def up() -> None:
        site = web.TCPSite(runner, "127.0.0.1", receiver.port, ssl_context=tls, reuse_address=True)
        await site.start()
        sites.append(site)
        receiver.port = runner.addresses[0][1]

    async def down() -> None:
        await sites.pop().stop()

    receiver.open, receiver.close = up, down
    await up()


@asynccontextmanager
async def receiving(authority: trustme.CA | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver, over TLS if it has an *authority* for its certificate."""
    receiver = Receiver("", 0)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    tls = None
    if authority is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await _listen(receiver, runner, tls)
        receiver.base = f"{'http' if tls is None else 'https'}://127.0.0.1:{receiver.port}"
        yield receiver
    finally:
        await runner.cleanup()


def options_for(receiver: Receiver, **options: Any) -> CallbackOptions:
    """Return options by which the receiver on loopback may be called."""
    guard = GuardOptions(
        allow_http=True,
        block_private_networks=False,
        ports=frozenset({receiver.port}),  # type: ignore[arg-type]  # mypy knows no generic converter
        resolve_dns=False,
    )
    given: dict[str, Any] = {
        "guard": guard,
        "secrets": CallbackSecrets(common=(SECRET,)),
        "timeout_seconds": 5.0,
    }
    return CallbackOptions(**(given | options))


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
