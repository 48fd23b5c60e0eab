"""What the tests of the S3 store share: data, and a proxy that does harm on the way to the server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from random import Random
from typing import Any

from attrs import define

from dedup2d.protocols import FileStore, HalfUploads
from tests.s3_server import S3Server

MIB = 1024 * 1024

_REFUSED = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: 44\r\n"
    b"Connection: close\r\n\r\n<Error><Code>AccessDenied</Code></Error>    "
)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def read(store: FileStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.open(key)])


def noise(size: int, seed: int = 1) -> bytes:
    """Return bytes no part of which is like another."""
    return Random(seed).randbytes(size)


def hashed(data: bytes) -> str:
    return sha256(data).hexdigest()


async def half_uploads(server: S3Server, prefix: str) -> list[str]:
    """Return the names of the objects under *prefix* whose upload was begun and not ended."""
    async with server.client() as client:
        answer = await client.list_multipart_uploads(Bucket=server.bucket, Prefix=prefix)
    return [upload["Key"] for upload in answer.get("Uploads", [])]


async def abandoned(store: HalfUploads, *, older_than: float) -> int:
    """Delete what is left of uploads that began before *older_than*, and count them."""
    return sum([await store.abandon(upload) async for upload in store.half_uploads(older_than=older_than)])


async def objects(server: S3Server, prefix: str) -> list[str]:
    """Return the names of the objects under *prefix*."""
    async with server.client() as client:
        answer = await client.list_objects_v2(Bucket=server.bucket, Prefix=prefix)
    return [found["Key"] for found in answer.get("Contents", [])]


@define
class Proxy:
    """Passes bytes on to a server on another port of loopback, as long as it is told nothing else."""

    port: int
    target: int
    corrupt: bytes | None = None
    """Bytes sent by the client whose first one is changed, each time they are seen in one piece."""
    refuse: str | None = None
    """Pattern of the first line of requests that are answered with 403."""
    cut_after: int | None = None
    """Bytes of answers after which the connection is cut, once."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(self._requests(reader, to_writer, writer), self._answers(to_reader, writer))

    async def _requests(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.refuse is not None and re.match(self.refuse.encode(), data):
                    back.write(_REFUSED)
                    await back.drain()
                    break
                to.write(self._changed(data))
                await to.drain()
        to.close()

    async def _answers(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        to.transport.abort()
                        break
                to.write(data)
                await to.drain()
        to.close()

    def _changed(self, data: bytes) -> bytes:
        if self.corrupt is None:
            return data
        return data.replace(self.corrupt, bytes([self.corrupt[0] ^ 1]) + self.corrupt[1:], 1)


@asynccontextmanager
async def proxy_to(server: S3Server, **harm: Any) -> AsyncIterator[Proxy]:
    """Give a proxy to *server*."""
    proxy = Proxy(0, server.port, **harm)
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
