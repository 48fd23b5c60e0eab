"""Connections to a real Redis: what a URL may say, outages, and what a start refuses."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis.asyncio
from anyio.streams.tls import TLSListener
from attrs import evolve

from dedup2d.errors import ConfigurationError, InternalError, StoreUnavailableError
from dedup2d.redis_connection import RedisOptions, connect, connect_blocking, mapped, probe
from dedup2d.redis_url import check_redis_url, read_redis_url, safe_redis_url
from tests.servers import RedisServer, free_port, redis_server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", password="hunter2") as running:
        yield running


def quick(url: str) -> RedisOptions:
    """Options that give up soon, if not so soon that a busy machine is taken for a hanging Redis."""
    return RedisOptions(url, connect_seconds=3, command_seconds=3)


@asynccontextmanager
async def client(options: RedisOptions) -> AsyncIterator[redis.asyncio.Redis]:
    opened = connect(options)
    try:
        yield opened
    finally:
        await opened.aclose()


# -- URLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "hosts", "service", "database", "user"),
    [
        ("redis://localhost", (("localhost", 6379),), None, 0, (None, None)),
        ("redis://h:1/2", (("h", 1),), None, 2, (None, None)),
        ("rediss://u:p%40%2Fw@[::1]:7", (("::1", 7),), None, 0, ("u", "p@/w")),
        ("redis://:p@h/", (("h", 6379),), None, 0, (None, "p")),
        ("redis+sentinel://:p@a,b:7/main/3", (("a", 26379), ("b", 7)), "main", 3, (None, "p")),
    ],
)
def test_urls_are_understood(
    url: str,
    hosts: tuple[tuple[str, int], ...],
    service: str | None,
    database: int,
    user: tuple[str | None, str | None],
) -> None:
    """If this fails, a right URL connects to another server, database or user than it names."""
    found = read_redis_url(url)
    assert (found.hosts, found.service, found.database) == (hosts, service, database)
    assert (found.username, found.password) == user
    assert found.tls is url.startswith("rediss")


def test_sockets_and_options_are_understood() -> None:
    """If this fails, a Unix socket, a CA file or the password of sentinels is not used."""
    assert read_redis_url("unix:///run/redis.sock?db=4").path == "/run/redis.sock"
    assert read_redis_url("unix:///run/redis.sock?db=4").database == 4
    assert read_redis_url("rediss://h?ssl_ca_certs=/ca.pem").options == {"ssl_ca_certs": "/ca.pem"}
    sentinel = read_redis_url("redis+sentinel://a/main?sentinel_password=x")
    assert sentinel.options == {"sentinel_password": "x"}


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:6379", "http://h", "redis:h", "redis://", "redis://h:0", "redis://h:99999"),
        *("redis://h:x", "redis://h/db", "redis://h/1/2", "redis://h?db=1", "redis://h?socket_timeout=9"),
        *("redis://:hunter2#@h", "redis://:hunter2/@h", "redis://:hunter2?@h", "redis://h/-1"),
        *("unix://run/redis.sock", "unix:///", "redis+sentinel://a,b", "redis+sentinel://a,,b/main"),
        *("rediss://h?ssl_ca_certs", "redis://:hunter2]@h", "redis://[:hunter2@h", "redis://a,b"),
    ],
)
def test_wrong_urls_are_refused_without_their_password(url: str) -> None:
    """If this fails, a typo in the URL connects elsewhere, or its password ends up in a log."""
    with pytest.raises(ValueError, match="give redis://") as caught:
        check_redis_url(url)
    assert "hunter2" not in f"{caught.value!r} {safe_redis_url(url)} {RedisOptions(url)!r}"
    assert caught.value.__cause__ is None
    for opening in (connect, connect_blocking):
        with pytest.raises(ConfigurationError, match="DEDUP2D_REDIS_URL") as refused:
            opening(RedisOptions(url))
        assert "hunter2" not in str(refused.value)


def test_passwords_are_not_shown(server: RedisServer) -> None:
    """If this fails, the password of a Redis ends up in logs."""
    for url in (server.url, "rediss://u:hunter2@h", "redis+sentinel://a/m?sentinel_password=hunter2"):
        assert "hunter2" not in repr(RedisOptions(url))
        assert "hunter2" not in repr(read_redis_url(url))
    assert "127.0.0.1" in repr(RedisOptions(server.url))


# -- outages ----------------------------------------------------------------------------------


async def test_a_restart_is_survived_by_the_next_call(server: RedisServer) -> None:
    """If this fails, each pooled connection gives one error after a restart of Redis."""
    async with client(RedisOptions(server.url)) as opened:
        await many(opened.ping, 5)
        server.restart()
        for _ in range(5):
            with mapped():
                await opened.set("key", "value")


async def test_an_outage_is_told_at_once_and_ends_by_itself(server: RedisServer) -> None:
    """If this fails, callers hang or get foreign errors while Redis is down, or stay broken after it."""
    async with client(quick(server.url)) as opened:
        await opened.ping()
        server.kill()
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="refused"), mapped():
                await opened.ping()
        assert time.monotonic() - started < 1
        server.start()
        with mapped():
            assert await opened.ping()


async def test_a_paused_server_costs_the_time_of_one_command(server: RedisServer) -> None:
    """If this fails, a Redis that hangs holds callers for ever, or for many times the time-out."""
    async with client(quick(server.url)) as opened:
        await opened.ping()
        server.pause()
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="in time"), mapped():
            await opened.ping()
        assert 2.9 < time.monotonic() - started < 5.9
        server.resume()
        with mapped():
            # An answer that comes late belongs to the call before.
            await opened.set("key", "value")
            assert await opened.get("key") == b"value"


async def test_more_callers_than_connections_wait(server: RedisServer) -> None:
    """If this fails, a burst of requests gets errors though Redis is well."""
    options = evolve(quick(server.url), pool_size=2)
    async with client(options) as opened:
        await many(opened.ping, 100)
        assert (await opened.info("clients"))["connected_clients"] <= 2


async def test_cancelled_callers_leave_the_pool_whole(server: RedisServer) -> None:
    """If this fails, each cancelled request takes a connection with it, or leaves its answer to the next."""
    async with client(evolve(quick(server.url), pool_size=3)) as opened:
        for number in range(60):
            with anyio.move_on_after(number * 0.00005):
                await many(lambda: opened.echo("cancelled"), 6)
        await many(lambda: opened.echo("whole"), 9)
        with mapped():
            assert await opened.echo("mine") == b"mine"


def test_blocking_clients_survive_a_restart(server: RedisServer) -> None:
    """If this fails, RQ's connections stay broken after a restart of Redis."""
    opened = connect_blocking(quick(server.url))
    assert opened.ping()
    server.restart()
    assert opened.ping()
    server.kill()
    with pytest.raises(StoreUnavailableError, match="refused"), mapped():
        opened.ping()
    opened.close()
    assert connect_blocking(evolve(quick(server.url), command_seconds=None)) is not None


async def test_a_refused_command_is_not_an_outage(server: RedisServer) -> None:
    """If this fails, a defect of ours is tried again for ever as if Redis were down."""
    async with client(quick(server.url)) as opened:
        await opened.set("key", "text")
        with pytest.raises(InternalError, match="WRONGTYPE"), mapped():
            await opened.hgetall("key")
        await opened.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailableError, match="memory is full"), mapped():
            await opened.set("key", "more")


# -- the start --------------------------------------------------------------------------------


async def refusal(options: RedisOptions) -> str:
    async with client(options) as opened:
        with pytest.raises(ConfigurationError) as caught:
            await probe(opened, options)
    assert caught.value.name == "DEDUP2D_REDIS_URL"
    assert "hunter" not in str(caught.value)
    return str(caught.value)


async def test_the_start_says_what_it_found(server: RedisServer) -> None:
    """If this fails, an operator is not told that a restart or full memory of Redis loses jobs."""
    options = quick(server.url)
    async with client(options) as opened:
        facts = await probe(opened, options)
        assert (facts.persistence, facts.maxmemory_policy) == ("none", "noeviction")
        assert ["appendonly" in warning for warning in facts.warnings] == [True]
        await opened.config_set("appendonly", "yes")
        await opened.config_set("maxmemory-policy", "allkeys-lru")
        facts = await probe(opened, options)
        assert facts.persistence == "aof"
        assert ["noeviction" in warning for warning in facts.warnings] == [True]
        await opened.config_set("appendonly", "no")
        await opened.config_set("save", "900 1")
        assert (await probe(opened, options)).persistence == "rdb"
        assert await opened.keys() == []


async def test_the_start_refuses_what_cannot_be_used(server: RedisServer) -> None:
    """If this fails, a service starts on a Redis that it cannot use, and fails at its first job."""
    assert "refused" in await refusal(quick(f"redis://127.0.0.1:{free_port()}"))
    assert "password" in await refusal(quick(server.url.replace("hunter2", "hunter3")))
    assert "password" in await refusal(quick(f"redis://127.0.0.1:{server.port}"))
    assert "known" in await refusal(quick("redis://no.such.host.invalid"))
    assert "no such file" in await refusal(quick(f"unix://{server.directory}/none.sock"))
    assert "out of range" in await refusal(quick(server.url[:-1] + "9999"))
    async with client(quick(server.url)) as opened:
        await command(opened, "ACL SETUSER weak on >hunter4 ~dedup2d:* +@all -zadd")
        await command(opened, "ACL SETUSER other on >hunter4 ~other:* +@all")
        await command(opened, "ACL SETUSER enough on >hunter4 ~dedup2d:* +@all -@admin -@dangerous")
        for user in ("weak", "other"):
            url = f"redis://{user}:hunter4@127.0.0.1:{server.port}"
            assert "may not" in await refusal(quick(url))
        enough = quick(f"redis://enough:hunter4@127.0.0.1:{server.port}")
        async with client(enough) as weak:
            assert (await probe(weak, enough)).persistence == "unknown"
        await command(opened, "REPLICAOF 127.0.0.1 1")
    assert "read-only" in await refusal(quick(server.url))


@contextmanager
def answering(reply: bytes | None) -> Iterator[int]:
    """Listen on a port that gives *reply* to whoever connects, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = (
            "import socket, sys\nlistener = socket.socket(fileno=int(sys.argv[1]))\nkept = []\nwhile True:\n"
            "    kept.append(listener.accept()[0])\n    kept[-1].sendall(bytes.fromhex(sys.argv[2]))\n"
        )
        process = subprocess.Popen(
            ["python3", "-c", code, str(listener.fileno()), (reply or b"").hex()],
            pass_fds=[listener.fileno()],
        )
        try:
            yield port
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("reply", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff" * 100])
async def test_the_start_refuses_what_is_not_a_redis(reply: bytes | None) -> None:
    """If this fails, the port of another service hangs the start or ends it with a traceback."""
    with answering(reply) as port, anyio.fail_after(5):
        assert "this one cannot" in await refusal(quick(f"redis://127.0.0.1:{port}"))


# -- ways to connect --------------------------------------------------------------------------


async def test_unix_sockets_work(tmp_path: Path) -> None:
    """If this fails, a Redis that listens on a socket file only cannot be used."""
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path / "redis", arguments=["--unixsocket", str(path)]):
        options = quick(f"unix://{path}?db=2")
        async with client(options) as opened:
            await opened.set("key", "value")
        blocking = connect_blocking(options)
        assert blocking.get("key") == b"value"
        blocking.close()


def certificate(directory: Path) -> tuple[Path, Path]:
    key, file = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", file, "-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return key, file


@asynccontextmanager
async def tls_in_front_of(port: int, key: Path, file: Path) -> AsyncIterator[int]:
    """Give the port of a TLS end in front of the plain *port*."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, key)

    async def pump(source: anyio.abc.ByteStream, target: anyio.abc.ByteStream) -> None:
        try:
            async for chunk in source:
                await target.send(chunk)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        await target.aclose()

    async def serve(secret: anyio.abc.ByteStream) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as plain, anyio.create_task_group() as tasks:
            tasks.start_soon(pump, secret, plain)
            await pump(plain, secret)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    secure = TLSListener(listener, context)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(secure.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()
    await secure.aclose()


async def test_tls_works_and_checks_the_certificate(server: RedisServer, tmp_path: Path) -> None:
    """If this fails, traffic to Redis is not encrypted, or goes to whoever presents any certificate."""
    key, file = certificate(tmp_path)
    async with tls_in_front_of(server.port, key, file) as port:
        url = f"rediss://:hunter2@127.0.0.1:{port}"
        trusted = quick(f"{url}?ssl_ca_certs={file}")
        async with client(trusted) as opened:
            assert (await probe(opened, trusted)).version
        assert "certificate is not trusted" in await refusal(quick(url))


@contextmanager
def sentinel(directory: Path, main: RedisServer) -> Iterator[int]:
    """Start a sentinel that watches *main* under the name `main`; give its port."""
    port = free_port()
    directory.mkdir()
    file = directory / "sentinel.conf"
    file.write_text(
        f"sentinel monitor main 127.0.0.1 {main.port} 1\nsentinel auth-pass main {main.password}\n"
        "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
    )
    watching = RedisServer(directory, port)
    watching.start_with([str(file), "--port", str(port), "--bind", "127.0.0.1", "--sentinel"])
    try:
        yield port
    finally:
        watching.kill()


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    while not await condition():  # noqa: ASYNC110 - of a server in another process
        await anyio.sleep(0.05)


async def wait_for_replica(url: str) -> None:
    async def follows() -> bool:
        return bool((await opened.info("replication")).get("master_link_status") == "up")

    async with client(quick(url)) as opened:
        await until(follows)


async def command(opened: redis.asyncio.Redis, words: str) -> Any:
    return await opened.execute_command(words)  # type: ignore[no-untyped-call]  # its package has no types


async def many(call: Callable[[], Awaitable[object]], number: int) -> None:
    async def one() -> None:
        await call()

    async with anyio.create_task_group() as tasks:
        for _ in range(number):
            tasks.start_soon(one)


async def test_sentinels_lead_to_the_new_server_after_a_failover(server: RedisServer, tmp_path: Path) -> None:
    """If this fails, a failover of Redis stops the service until it is restarted."""
    arguments = ["--replicaof", "127.0.0.1", str(server.port), "--masterauth", "hunter2"]
    with (
        redis_server(tmp_path / "replica", password="hunter2", arguments=arguments) as replica,
        sentinel(tmp_path / "sentinel", server) as port,
        anyio.fail_after(30),
    ):
        await wait_for_replica(replica.url)
        url = f"redis+sentinel://:hunter2@127.0.0.1:{free_port()},127.0.0.1:{port}/main/0"
        blocking = connect_blocking(quick(url))
        async with client(quick(url)) as opened, client(quick(f"redis://127.0.0.1:{port}")) as watching:
            await opened.set("key", "before")
            await until(lambda: command(watching, "SENTINEL REPLICAS main"))
            server.kill()

            async def written() -> bool:
                try:
                    with mapped():
                        return bool(await opened.set("key", "after"))
                except StoreUnavailableError:
                    return False

            await until(written)
            assert blocking.get("key") == b"after"
            blocking.close()
        assert "knows a server" in await refusal(quick(f"redis+sentinel://127.0.0.1:{port}/other"))
        async with client(quick(replica.url)) as opened:
            assert await opened.get("key") == b"after"
