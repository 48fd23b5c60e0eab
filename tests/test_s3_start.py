"""A bucket that cannot be used stops the start with the setting, the reason and what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from attrs import evolve

from dedup2d.errors import ConfigurationError, StoreUnavailableError
from dedup2d.files.s3 import S3FileStore, S3Options
from dedup2d.files.s3_client import CallFailedError, S3Client
from tests.backends import s3_options
from tests.s3_server import shared_s3_server
from tests.s3_support import objects, proxy_to
from tests.serving import free_port


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def refused(options: S3Options) -> ConfigurationError:
    """Return the error with which the start ends."""
    with anyio.fail_after(20), pytest.raises(ConfigurationError) as caught:
        async with S3FileStore(options):
            pass
    if options.secret_key is not None:
        assert options.secret_key not in f"{caught.value}{caught.value!r}{options!r}"
    return caught.value


async def test_the_probe_leaves_nothing() -> None:
    """If this fails, each start of a process leaves an object in the bucket."""
    options = s3_options()
    async with S3FileStore(options) as store:
        facts = await store.probe()
    assert (facts.endpoint, facts.bucket, facts.warnings) == (options.endpoint, options.bucket, ())
    assert await objects(shared_s3_server(), options.prefix) == []


async def test_many_processes_may_start_at_once() -> None:
    """If this fails, starting several workers together fails now and then."""
    options = s3_options()
    async with S3FileStore(options) as one, S3FileStore(options) as two, anyio.create_task_group() as tasks:
        for store in (one, two) * 10:
            tasks.start_soon(store.probe)


@pytest.mark.parametrize(
    "wrong",
    [{"access_key": "nobody-knows-it"}, {"secret_key": "not-the-secret-of-it"}],
    ids=["access key", "secret key"],
)
async def test_wrong_keys(wrong: dict[str, str]) -> None:
    """If this fails, wrong credentials are found by the first upload, or show the secret in a log."""
    error = await refused(evolve(s3_options(), **wrong))
    assert error.name == "DEDUP2D_S3_ACCESS_KEY"
    assert "DEDUP2D_S3_SECRET_KEY" in str(error)
    assert "403" in str(error)
    assert wrong.get("access_key", "-") not in str(error).replace("(not shown)", "")


async def test_no_keys_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a machine without role and keys starts, and fails later."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    error = await refused(evolve(s3_options(), access_key=None, secret_key=None))
    assert error.name == "DEDUP2D_S3_ACCESS_KEY"
    assert "there are no credentials" in str(error)


async def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, machines that get their keys in AWS' own way cannot use S3."""
    options = s3_options()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(options.access_key))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(options.secret_key))
    async with S3FileStore(evolve(options, access_key=None, secret_key=None)) as store:
        assert await store.list() == []


async def test_no_bucket() -> None:
    """If this fails, a bucket that is misspelled is found by the first upload."""
    error = await refused(evolve(s3_options(), bucket="no-such-bucket-here"))
    assert error.name == "DEDUP2D_S3_BUCKET"
    assert "no-such-bucket-here" in str(error)
    assert "404 NoSuchBucket" in str(error)


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[int]:
    """Give the port of a server that says the same to everybody, or nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await reader.read()
        else:
            await reader.read(65536)
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


HTML = (
    b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: 12\r\nConnection: close\r\n\r\n<p>Hello</p>"
)


@pytest.mark.parametrize(
    ("answer", "scheme", "reason"),
    [
        (HTML % b"200 OK", "http", "is not"),
        (HTML % b"404 Not Found", "http", "answers 404"),
        (b"+PONG\r\n", "http", "call of the S3 server failed"),
        (b"", "http", "broke off"),
        (None, "http", "does not answer in time"),
        (HTML % b"400 Bad Request", "https", "TLS with the S3 server fails"),
    ],
    ids=["page", "no page", "no HTTP", "closed", "silent", "no TLS"],
)
async def test_what_answers_is_no_s3_server(answer: bytes | None, scheme: str, reason: str) -> None:
    """If this fails, the URL of something else starts, hangs, or ends in an error that helps nobody."""
    async with answering(answer) as port:
        options = evolve(s3_options(), endpoint=f"{scheme}://127.0.0.1:{port}")
        if answer is None:
            options = evolve(options, read_seconds=0.5)
        error = await refused(options)
    assert error.name == "DEDUP2D_S3_ENDPOINT"
    assert reason in str(error)
    assert f"{scheme}://127.0.0.1:{port}" in str(error)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_nothing_answers(host: str) -> None:
    """If this fails, an endpoint that is misspelled is found by the first upload."""
    error = await refused(evolve(s3_options(), endpoint=f"http://{host}:{free_port()}"))
    assert error.name == "DEDUP2D_S3_ENDPOINT"
    assert "the S3 server cannot be reached: " in str(error)


@pytest.mark.parametrize(
    ("refuse", "action"),
    [
        (r"GET [^ ]*list-type=2", "s3:ListBucket"),
        (r"PUT ", "s3:PutObject"),
        (r"GET [^ ]*dedup2d-probe", "s3:GetObject"),
        (r"DELETE ", "s3:DeleteObject"),
    ],
)
async def test_what_is_not_allowed_is_named(refuse: str, action: str) -> None:
    """If this fails, the operator must guess which permission the key lacks."""
    async with proxy_to(shared_s3_server(), refuse=refuse) as proxy:
        error = await refused(evolve(s3_options(), endpoint=f"http://127.0.0.1:{proxy.port}"))
    assert error.name == "DEDUP2D_S3_BUCKET"
    assert action in str(error)
    assert "403 AccessDenied" in str(error)


async def test_uploads_that_cannot_be_listed_are_a_warning() -> None:
    """If this fails, a key without that permission cannot be used, or nobody learns what it lacks."""
    async with proxy_to(shared_s3_server(), refuse=r"GET [^ ]*uploads") as proxy:
        options = evolve(s3_options(), endpoint=f"http://127.0.0.1:{proxy.port}")
        async with S3FileStore(options) as store:
            [warning] = (await store.probe()).warnings
    assert "s3:ListBucketMultipartUploads" in warning


async def test_a_server_that_cannot_work_now_is_no_wrong_setting() -> None:
    """If this fails, an outage during a start reads as if a setting were wrong."""
    busy = HTML % b"503 Slow Down"
    async with answering(busy) as port:
        options = evolve(s3_options(), endpoint=f"http://127.0.0.1:{port}")
        with pytest.raises(StoreUnavailableError, match="answers 503"):
            async with S3FileStore(options):
                pass


async def test_encryption_that_the_server_lacks() -> None:
    """If this fails, encryption is asked for in vain, which the first upload finds."""
    server = shared_s3_server(own=True)
    error = await refused(evolve(s3_options(server), server_side_encryption="AES256"))
    assert error.name == "DEDUP2D_S3_SERVER_SIDE_ENCRYPTION"
    assert "AES256" in str(error)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"bucket": ""}, "DEDUP2D_S3_BUCKET"),
        ({"bucket": "a/b"}, "DEDUP2D_S3_BUCKET"),
        ({"endpoint": "127.0.0.1:9000"}, "DEDUP2D_S3_ENDPOINT"),
        ({"endpoint": "ftp://host"}, "DEDUP2D_S3_ENDPOINT"),
        ({"endpoint": "http://host:port"}, "DEDUP2D_S3_ENDPOINT"),
        ({"endpoint": "http://user:hidden@host"}, "DEDUP2D_S3_ENDPOINT"),
        ({"endpoint": "http://host?hidden=1"}, "DEDUP2D_S3_ENDPOINT"),
        ({"prefix": "/a"}, "DEDUP2D_S3_PREFIX"),
        ({"prefix": "a/"}, "DEDUP2D_S3_PREFIX"),
        ({"prefix": "../a"}, "DEDUP2D_S3_PREFIX"),
        ({"prefix": "/".join(["x" * 200] * 3)}, "DEDUP2D_S3_PREFIX"),
        ({"addressing": "host"}, "DEDUP2D_S3_ADDRESSING"),
        ({"access_key": "a"}, "DEDUP2D_S3_SECRET_KEY"),
        ({"secret_key": "hidden"}, "DEDUP2D_S3_ACCESS_KEY"),
        ({"server_side_encryption": "rot13"}, "DEDUP2D_S3_SERVER_SIDE_ENCRYPTION"),
        ({"kms_key_id": "key"}, "DEDUP2D_S3_SERVER_SIDE_ENCRYPTION"),
    ],
)
def test_wrong_options(wrong: dict[str, Any], name: str) -> None:
    """If this fails, a wrong setting is found late, or its error names another one, or a secret."""
    with pytest.raises(ConfigurationError) as caught:
        S3Options(**{"bucket": "drawings", **wrong})
    assert caught.value.name == name
    assert "user:hidden" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    """If this fails, a log of the options shows the keys."""
    options = S3Options(bucket="drawings", access_key="the-id", secret_key="the-secret")
    assert "the-" not in repr(options)
    assert "the-" not in repr(S3FileStore(options))


async def test_errors_hold_their_code_and_no_url() -> None:
    """If this fails, clients see another code than that of an outage, or where the bucket is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = evolve(s3_options(), endpoint=f"http://127.0.0.1:{port}")
    async with S3Client.connected(options) as client:
        with pytest.raises(CallFailedError) as caught:
            await client.call("head_bucket")
    assert (caught.value.code, caught.value.transient) == ("STORE_UNAVAILABLE", True)
    assert "the S3 server cannot be reached: Connection refused" in str(caught.value)
    assert str(port) not in str(caught.value)
