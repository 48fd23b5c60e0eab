"""Server-sent events of a job, read line by line; connects again with what was told last."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio

from dedup2d.client.answers import job_of
from dedup2d.client.transport import Request, Transport
from dedup2d.errors import Dedup2DError, MissingExtraError, ServiceError
from dedup2d.types import Job

try:
    import aiohttp
except ImportError:
    raise MissingExtraError("client", "a client of a service (aiohttp)") from None

__all__ = ["events_of"]

_STREAM_SECONDS = 660.0
_PAUSE_SECONDS = 2.0
_MOST_FAILURES = 5


async def events_of(transport: Transport, path: str) -> AsyncGenerator[Job, None]:
    """
    Give the job at each change until it is final.

    Raises:
        ServiceUnreachableError: the service could not be reached several times in a row.
        Dedup2DError: it refused.
    """
    told, failures = "", 0
    while True:
        headers = {"Last-Event-ID": told} if told else {}
        request = Request(method="GET", path=path, headers=headers, seconds=_STREAM_SECONDS)
        try:
            async with transport.opened(request) as response:
                if response.status == 204:
                    return
                async with aclosing(_events(response)) as events:
                    async for name, identifier, data in events:
                        told, failures = identifier, 0
                        yield job_of(data)
                        if name == "final":
                            return
        except Dedup2DError as error:
            failures += 1
            if failures >= _MOST_FAILURES or transport.patience(request)(error) is False:
                raise
        await anyio.sleep(_PAUSE_SECONDS)


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[tuple[str, str, bytes], None]:
    """Give name, id and data of each event."""
    fields: dict[str, bytes] = {}
    async with aclosing(_lines(response)) as lines:
        async for line in lines:
            if not line:
                if "data" in fields:
                    yield fields.get("event", b"").decode(), fields.get("id", b"").decode(), fields["data"]
                fields = {}
                continue
            name, _, value = line.partition(b":")
            fields[name.decode(errors="replace")] = value.removeprefix(b" ")


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    while True:
        try:
            line = await response.content.readline()
        except ValueError:
            raise ServiceError("a line of the events is longer than any event") from None
        if not line.endswith(b"\n"):
            return
        yield line.rstrip(b"\r\n")
