"""A receiver of callbacks for as long as the smoke tests run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
from attrs import define, field, frozen

from dedup2d.errors import InvalidParameterError, MissingExtraError
from dedup2d.smoke.options import Listen

try:
    from aiohttp import web
except ImportError:
    raise MissingExtraError("client", "receiving callbacks (aiohttp)") from None

__all__ = ["Callback", "Receiver", "receiving"]

_MOST_BYTES = 16 * 1024 * 1024
_MOST_KEPT = 16
_JOB_ID = "X-Dedup-Job-Id"


@frozen
class Callback:
    """A request as it came in."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@define
class Receiver:
    """Answers 204 to each callback at `path` (None: any) and keeps the first few; all else gets 404."""

    port: int
    path: str | None
    _came: dict[str, Callback] = field(factory=dict, init=False)
    _news: anyio.Event = field(factory=anyio.Event, init=False)

    async def of(self, job_id: str) -> Callback:
        """Wait for the callback of a job."""
        while job_id not in self._came:
            await self._news.wait()
        return self._came[job_id]

    async def handle(self, request: web.Request) -> web.Response:
        if request.method != "POST" or self.path not in (None, request.path):
            return web.Response(status=404)
        body = await request.read()
        if len(self._came) < _MOST_KEPT:
            self._came[request.headers.get(_JOB_ID, "")] = Callback(dict(request.headers), body)
        self._news.set()
        self._news = anyio.Event()
        return web.Response(status=204)


@asynccontextmanager
async def receiving(listen: Listen, path: str | None) -> AsyncIterator[Receiver]:
    """
    Receive callbacks at *path* (None: any) until the block ends.

    Raises:
        InvalidParameterError: nobody can listen there.
    """
    receiver = Receiver(listen.port, path)
    app = web.Application(client_max_size=_MOST_BYTES)
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, listen.host, listen.port).start()
        except OSError as error:
            where = f"{listen.host}:{listen.port}"
            reason = (error.strerror or str(error)).lower()
            raise InvalidParameterError(
                "receive", where, f"an address and a free port of this machine ({reason})"
            ) from error
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()
