"""An S3 server that dies, hangs, restarts and loses connections while the store uses it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Iterator

import anyio
import pytest
from attrs import evolve

from dedup2d.errors import FileNotStoredError, StoreUnavailableError
from dedup2d.files import s3_download
from dedup2d.files.s3 import S3FileStore, S3Options
from dedup2d.files.s3_upload import PART_BYTES
from tests.backends import s3_options
from tests.s3_server import S3Server, shared_s3_server
from tests.s3_support import MIB, abandoned, half_uploads, hashed, noise, pieces, proxy_to, read

pytestmark = pytest.mark.once


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Iterator[S3Server]:
    """Give a server that may be killed, and bring it back to life."""
    server = shared_s3_server(own=True)
    yield server
    server.resume()
    server.restart()


@pytest.fixture
def options(server: S3Server) -> S3Options:
    return evolve(s3_options(server), read_seconds=2.0)


async def test_an_outage_passes(server: S3Server, options: S3Options) -> None:
    """If this fails, an S3 outage kills the service, or needs a restart of it afterwards."""
    async with S3FileStore(options) as store:
        await store.put("key", pieces(b"before"))
        server.kill()
        for call in (store.list(), store.delete("key"), store.put("new", pieces(b"x")), read(store, "key")):
            begin = time.monotonic()
            with pytest.raises(StoreUnavailableError) as told:
                await call
            assert "the S3 server cannot be reached: Connection refused" in str(told.value)
            assert time.monotonic() - begin < 15
        server.restart()
        begin = time.monotonic()
        assert [file.key for file in await store.list()] == ["key"]
        assert await read(store, "key") == b"before"
        assert time.monotonic() - begin < 5


async def test_a_server_killed_in_mid_upload(server: S3Server, options: S3Options) -> None:
    """If this fails, an outage in mid-upload destroys the old file, or leaves parts for ever."""

    async def cut_off() -> AsyncIterator[bytes]:
        yield noise(PART_BYTES + 1)
        server.kill()
        yield noise(PART_BYTES)

    async with S3FileStore(options) as store:
        await store.put("key", pieces(b"before"))
        for key in ("key", "new"):
            with pytest.raises(StoreUnavailableError):
                await store.put(key, cut_off())
            server.restart()
        assert [file.key for file in await store.list()] == ["key"]
        assert await read(store, "key") == b"before"
        later = (await store.put("now", pieces(b""))).created_at + 10
        assert await abandoned(store, older_than=later) == 2
        assert await half_uploads(server, options.prefix) == []


async def test_a_server_restarted_in_mid_download(server: S3Server, options: S3Options) -> None:
    """If this fails, a job whose file was half read fails at each restart of S3."""
    data = noise(30 * MIB)
    async with S3FileStore(options) as store:
        await store.put("key", pieces(data))
        reader = store.open("key")
        got = await anext(reader)
        server.kill()
        server.restart()
        got += b"".join([chunk async for chunk in reader])
        assert hashed(got) == hashed(data)


@pytest.mark.parametrize("replaced", [True, False])
async def test_a_file_gone_in_mid_download(server: S3Server, options: S3Options, *, replaced: bool) -> None:
    """If this fails, a reader gets the head of one file and the tail of another."""
    async with S3FileStore(options) as store:
        await store.put("key", pieces(noise(30 * MIB)))
        reader = store.open("key")
        await anext(reader)
        server.kill()
        server.restart()
        if replaced:
            await store.put("key", pieces(noise(30 * MIB, 2)))
            with pytest.raises(StoreUnavailableError, match="replaced while it was read"):
                [chunk async for chunk in reader]
        else:
            await store.delete("key")
            with pytest.raises(FileNotStoredError):
                [chunk async for chunk in reader]


@pytest.mark.parametrize("cut_after", [1, 70_000, 3 * MIB])
async def test_a_broken_connection_is_taken_up_again(
    server: S3Server, options: S3Options, cut_after: int
) -> None:
    """If this fails, a connection that breaks costs the job, or bytes are given twice or left out."""
    data = noise(5 * MIB)
    async with (
        proxy_to(server) as proxy,
        S3FileStore(evolve(options, endpoint=f"http://127.0.0.1:{proxy.port}")) as store,
    ):
        await store.put("key", pieces(data))
        proxy.cut_after = cut_after
        assert hashed(await read(store, "key")) == hashed(data)
        assert proxy.cut_after is None


async def test_a_download_is_given_up(
    server: S3Server, options: S3Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a reader waits for ever for a server that does not come back."""
    monkeypatch.setattr(s3_download, "_PAUSES", (0.01, 0.01))
    async with S3FileStore(options) as store:
        await store.put("key", pieces(noise(30 * MIB)))
        reader = store.open("key")
        await anext(reader)
        server.kill()
        with anyio.fail_after(30), pytest.raises(StoreUnavailableError, match="cannot be reached"):
            [chunk async for chunk in reader]


async def test_a_hanging_server(server: S3Server, options: S3Options) -> None:
    """If this fails, one S3 server that hangs makes the service hang, or it stays so afterwards."""
    data = noise(PART_BYTES + 1)
    async with S3FileStore(options) as store:
        await store.put("key", pieces(data))
        reader = store.open("key")
        first = await anext(reader)
        server.pause()

        async def hangs(call: Awaitable[object]) -> None:
            with pytest.raises(StoreUnavailableError, match="does not answer in time"):
                await call

        with anyio.fail_after(25):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hangs, store.list())
                tasks.start_soon(hangs, store.delete("key"))
                tasks.start_soon(hangs, store.put("new", pieces(b"x")))
                tasks.start_soon(hangs, store.put("new", pieces(data)))
                tasks.start_soon(hangs, read(store, "key"))
        server.resume()
        with anyio.fail_after(5):
            assert [file.key for file in await store.list(limit=1)] == ["key"]
        assert first + b"".join([chunk async for chunk in reader]) == data


async def test_a_short_pause_is_waited_for(server: S3Server, options: S3Options) -> None:
    """If this fails, each hiccup of S3 fails uploads that a little patience would have saved."""
    async with S3FileStore(options) as store, anyio.create_task_group() as tasks:
        server.pause()
        tasks.start_soon(store.put, "key", pieces(b"data"))
        tasks.start_soon(store.put, "large", pieces(noise(PART_BYTES + 1)))
        await anyio.sleep(1)
        server.resume()
    async with S3FileStore(options) as store:
        assert [file.key for file in await store.list()] == ["key", "large"]
