"""What an S3 file store does beyond the contract, on a real server."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from dedup2d.errors import FileNotStoredError, StoreUnavailableError
from dedup2d.files import s3_upload
from dedup2d.files.s3 import S3FileStore
from dedup2d.files.s3_client import S3Client
from dedup2d.files.s3_upload import PART_BYTES, Budget, Upload
from tests.backends import s3_options
from tests.s3_server import S3Server, shared_s3_server
from tests.s3_support import MIB, abandoned, half_uploads, hashed, noise, objects, pieces, proxy_to, read


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> S3Server:
    return shared_s3_server()


SIZES = [0, 1, MIB - 1, MIB, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 20 * MIB + 7]


@pytest.mark.parametrize("size", SIZES)
async def test_files_of_any_size_come_back(size: int) -> None:
    """If this fails, files at the edge of a part are stored with a piece too much, too few or none."""
    data = noise(size)
    async with S3FileStore(s3_options()) as store:
        stored = await store.put("key", pieces(data[: size // 3], b"", data[size // 3 :]))
        assert (stored.size, stored.sha256) == (size, hashed(data))
        assert await read(store, "key") == data
        [listed] = await store.list()
        assert (listed.size, abs(listed.created_at - stored.created_at) <= 1) == (size, True)


async def test_uploads_over_the_budget_wait_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, many clients at once fill the memory, or bytes get lost on their way over the disk."""
    spilled: list[int] = []
    spill = s3_upload._Part.spill
    monkeypatch.setattr(s3_upload._Part, "spill", lambda part: (spilled.append(part.size), spill(part))[1])
    data = {f"file-{n}": noise(400_000, n) for n in range(8)}
    async with S3FileStore(evolve(s3_options(), buffer_bytes=MIB)) as store:
        begun, all_begun = 0, anyio.Event()

        async def slow(body: bytes) -> AsyncIterator[bytes]:
            nonlocal begun
            yield body[:-1]
            begun += 1
            if begun == len(data):
                all_begun.set()
            await all_begun.wait()
            yield body[-1:]

        async with anyio.create_task_group() as tasks:
            for key, body in data.items():
                tasks.start_soon(store.put, key, slow(body))
        for key, body in data.items():
            assert await read(store, key) == body
        assert store._budget.used == 0
    assert len(spilled) >= 6


MEMORY = """
import sys, anyio, re
from pathlib import Path
from dedup2d.files.s3 import S3FileStore, S3Options

def memory(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

async def data(size):
    for _ in range(size * 16):
        yield bytes(65536)

async def main(endpoint, bucket, prefix, access_key, secret_key, uploads, size):
    options = S3Options(
        endpoint=endpoint, bucket=bucket, prefix=prefix, access_key=access_key, secret_key=secret_key
    )
    async with S3FileStore(options) as store:
        await store.put("first", data(1))
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        async with anyio.create_task_group() as tasks:
            for number in range(int(uploads)):
                tasks.start_soon(store.put, f"file-{number}", data(int(size)))
        print(memory("VmHWM") - before)

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.once
@pytest.mark.parametrize(("uploads", "size", "most"), [(1, 200, 16), (20, 20, 64)])
async def test_memory_is_bounded(server: S3Server, uploads: int, size: int, most: int) -> None:
    """If this fails, large uploads, or many at once, take the API out of memory."""
    options = s3_options(server)
    access = (options.endpoint, options.bucket, options.prefix, options.access_key, options.secret_key)
    done = await anyio.run_process(
        [sys.executable, "-c", MEMORY, *map(str, access), str(uploads), str(size)], stderr=None
    )
    assert float(done.stdout) <= most
    async with S3FileStore(options) as store:
        stored = {file.key: file.size for file in await store.list()}
        assert stored == {"first": MIB} | {f"file-{n}": size * MIB for n in range(uploads)}
        for key in stored:
            await store.delete(key)


async def test_a_cancelled_upload_is_aborted(server: S3Server) -> None:
    """If this fails, each upload that a client breaks off takes space in the bucket for ever."""
    options = s3_options(server)
    async with S3FileStore(options) as store:
        started = anyio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield noise(PART_BYTES + 1)
            started.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.put, "key", endless())
            await started.wait()
            assert len(await half_uploads(server, f"{options.prefix}/key!")) == 1
            tasks.cancel_scope.cancel()
        assert await half_uploads(server, f"{options.prefix}/key!") == []
        assert store._budget.used == 0


KILLED = """
import sys, anyio
from dedup2d.files.s3 import S3FileStore, S3Options

async def data():
    yield bytes(8 * 1024 * 1024 + 1)
    print("sent", flush=True)
    await anyio.sleep_forever()

async def main(endpoint, bucket, prefix, access_key, secret_key):
    options = S3Options(
        endpoint=endpoint, bucket=bucket, prefix=prefix, access_key=access_key, secret_key=secret_key
    )
    async with S3FileStore(options) as store:
        await store.put("folder/key", data())

anyio.run(main, *sys.argv[1:])
"""


async def test_uploads_of_killed_processes_can_be_abandoned(server: S3Server) -> None:
    """If this fails, crashes in mid-upload fill the bucket with what no list of files shows."""
    options = s3_options(server)
    access = (options.endpoint, options.bucket, options.prefix, options.access_key, options.secret_key)
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, access)], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "sent\n"
    worker.kill()
    worker.wait()
    worker.stdout.close()

    other = s3_options(server)
    async with S3FileStore(options) as store, S3FileStore(other) as neighbour:
        assert await store.list() == []
        later = (await store.put("now", pieces(b""))).created_at + 10
        assert await abandoned(store, older_than=later - 3600) == 0
        assert await abandoned(neighbour, older_than=later) == 0
        assert await abandoned(store, older_than=later) == 1
        assert await abandoned(store, older_than=later) == 0
    assert await half_uploads(server, options.prefix) == []


async def test_stores_of_one_bucket_do_not_meet(server: S3Server) -> None:
    """If this fails, two installations in one bucket collect each other's files as garbage."""
    options = s3_options(server)
    assert options.prefix
    async with (
        S3FileStore(options) as store,
        S3FileStore(evolve(options, prefix=options.prefix + "-2")) as other,
    ):
        await store.put("a/b", pieces(b"mine"))
        await other.put("a/b", pieces(b"other"))
        await other.put("c", pieces(b"other"))
        assert [file.key for file in await store.list()] == ["a/b"]
        assert await read(store, "a/b") == b"mine"
        assert not await store.delete("c")
        assert await store.delete("a/b")
        assert await read(other, "a/b") == b"other"


async def test_other_objects_under_the_prefix_are_left_alone(server: S3Server) -> None:
    """If this fails, gc deletes objects of the bucket that dedup2d did not put there."""
    options = s3_options(server)
    names = [f"{options.prefix}/{name}" for name in ("key", "folder/x.png", "with space!", ".hidden!")]
    async with server.client() as client:
        for name in names:
            await client.put_object(Bucket=server.bucket, Key=name, Body=b"theirs")
    async with S3FileStore(options) as store:
        await store.put("key", pieces(b"ours"))
        assert [file.key for file in await store.list(limit=3)] == ["key"]
        assert await read(store, "key") == b"ours"
        assert await store.delete("key")
        with pytest.raises(FileNotStoredError):
            await read(store, "key")
    assert sorted(await objects(server, options.prefix)) == sorted(names)


async def test_a_store_without_prefix_uses_the_whole_bucket(server: S3Server) -> None:
    """If this fails, a bucket of its own cannot be used without a prefix."""
    prefix = s3_options(server).prefix
    async with S3FileStore(evolve(s3_options(server), prefix="")) as store:
        await store.put(f"{prefix}/a", pieces(b"x"))
        assert [file.key for file in await store.list(prefix=prefix)] == [f"{prefix}/a"]
        assert await objects(server, prefix) == [f"{prefix}/a!"]
        assert await store.delete(f"{prefix}/a")


@pytest.mark.parametrize("size", [1000, PART_BYTES + 1000])
async def test_a_corrupted_body_is_refused(server: S3Server, size: int) -> None:
    """If this fails, bits that change on the way are stored as if they were the drawing."""
    data = noise(size)
    options = s3_options(server)
    async with (
        proxy_to(server) as proxy,
        S3FileStore(evolve(options, endpoint=f"http://127.0.0.1:{proxy.port}")) as store,
    ):
        await store.put("key", pieces(b"before"))
        proxy.corrupt = data[-100:]
        with pytest.raises(StoreUnavailableError) as refused:
            await store.put("key", pieces(data))
        assert "answers 400" in str(refused.value)
        proxy.corrupt = None
        assert await read(store, "key") == b"before"
        assert (await store.put("key", pieces(data))).sha256 == hashed(data)


async def test_every_upload_carries_its_md5() -> None:
    """If this fails, a body that TLS alone protects (it is not signed then) is stored unchecked."""
    sent: list[tuple[str, dict[str, str]]] = []

    def record(request: Any, event_name: str, **_: Any) -> None:
        sent.append((event_name.rpartition(".")[2], {k.lower(): v for k, v in request.headers.items()}))

    async with S3FileStore(s3_options()) as store:
        store._client.raw.meta.events.register("before-send.s3", record)
        await store.put("small", pieces(b"data"))
        await store.put("large", pieces(noise(PART_BYTES + 1)))
    bodies = [(name, headers) for name, headers in sent if name in {"PutObject", "UploadPart"}]
    assert [name for name, _ in bodies] == ["PutObject", "UploadPart", "UploadPart"]
    for _, headers in bodies:
        assert len(b64decode(headers["content-md5"])) == 16
        assert not any(name.startswith("x-amz-checksum") or name == "x-amz-trailer" for name in headers)


async def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an upload for which there is no temporary space ends in an error that helps nobody."""
    async with S3FileStore(s3_options()) as store:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
        with pytest.raises(StoreUnavailableError) as told:
            await store.put("key", pieces(noise(2 * MIB)))
        assert "a temporary file cannot be written: No such file" in str(told.value)
        assert str(tmp_path) not in str(told.value)
        assert (await store.put("small", pieces(b"x"))).size == 1


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


_ANSWERS = {
    "CreateMultipartUpload": b"<R><UploadId>id</UploadId></R>",
    "CompleteMultipartUpload": b"<R><ETag>x</ETag></R>",
}


@pytest.mark.parametrize("size", [10, PART_BYTES + 1])
@pytest.mark.parametrize(
    ("encryption", "key_id"), [("AES256", None), ("aws:kms", None), ("aws:kms", "key-1")]
)
async def test_encryption_is_asked_for(size: int, encryption: str, key_id: str | None) -> None:
    """If this fails, drawings lie in the bucket unencrypted although the operator asked for it."""
    from aiobotocore.awsrequest import AioAWSResponse  # noqa: PLC0415 - only this test needs it

    asked: dict[str, tuple[str | None, str | None]] = {}

    def answer(request: Any, event_name: str, **_: Any) -> AioAWSResponse:
        operation, headers = event_name.rpartition(".")[2], request.headers
        wanted = [headers.get(f"x-amz-server-side-encryption{more}") for more in ("", "-aws-kms-key-id")]
        asked[operation] = tuple(each.decode() if isinstance(each, bytes) else each for each in wanted)  # type: ignore[assignment]  # one or several, as asked
        facts = {"etag": '"x"', "content-length": str(size), "last-modified": "Mon, 23 Nov 2026 17:00:00 GMT"}
        return AioAWSResponse(request.url, 200, facts, _Raw(_ANSWERS.get(operation, b"")))

    options = evolve(s3_options(), server_side_encryption=encryption, kms_key_id=key_id)
    async with S3Client.connected(options) as client:
        client.raw.meta.events.register("before-send.s3", answer)
        async with Upload(client, "name", Budget(MIB)) as upload:
            await upload.take(bytes(size))
            await upload.finish()
    begins = "PutObject" if size < PART_BYTES else "CreateMultipartUpload"
    assert asked.pop(begins) == (encryption, key_id)
    assert set(asked.values()) <= {(None, None)}


@pytest.mark.parametrize(
    ("endpoint", "addressing", "host", "path"),
    [
        (None, "auto", "drawings.s3.amazonaws.com", "/p/key!"),
        (None, "path", "s3.amazonaws.com", "/drawings/p/key!"),
        ("https://s3.example.org", "auto", "s3.example.org", "/drawings/p/key!"),
        ("https://s3.example.org", "path", "s3.example.org", "/drawings/p/key!"),
        ("https://s3.example.org", "virtual", "drawings.s3.example.org", "/p/key!"),
    ],
)
async def test_addressing(endpoint: str | None, addressing: str, host: str, path: str) -> None:
    """If this fails, servers that know buckets by host name alone, or by path alone, cannot be used."""
    asked: list[str] = []

    def answer(request: Any, **_: Any) -> Any:
        from aiobotocore.awsrequest import AioAWSResponse  # noqa: PLC0415 - only this test needs it

        asked.append(request.url)
        return AioAWSResponse(request.url, 200, {}, _Raw(b""))

    options = evolve(s3_options(), endpoint=endpoint, bucket="drawings", prefix="p", addressing=addressing)
    async with S3Client.connected(options) as client:
        client.raw.meta.events.register("before-send.s3", answer)
        await client.call("head_object", Key="p/key!")
    assert asked == [f"https://{host}{path.replace('!', '%21')}"]
