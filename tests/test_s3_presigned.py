"""URLs by which clients put files into the bucket themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientSession
from attrs import evolve
from yarl import URL

from dedup2d.errors import InvalidParameterError
from dedup2d.files.local import LocalFileStore
from dedup2d.files.s3 import S3FileStore
from dedup2d.protocols import PresignedFiles
from dedup2d.types import PresignedUpload
from tests.backends import s3_options
from tests.s3_support import noise, pieces, read

DATA = noise(100_000)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def send(
    upload: PresignedUpload,
    data: bytes = DATA,
    *,
    url: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Put *data* as the client of an upload does, or nearly so; return the status."""
    all_headers = {**upload.headers, "Content-Length": str(len(data)), **(headers or {})}
    address = URL(url or upload.url, encoded=True)
    async with (
        ClientSession(skip_auto_headers=["Content-Type"]) as session,
        session.request(upload.method, address, data=data, headers=all_headers) as response,
    ):
        return response.status


async def test_a_client_puts_a_file_itself() -> None:
    """If this fails, large files must go through the API, or clients need keys of the bucket."""
    async with S3FileStore(s3_options()) as store:
        assert isinstance(store, PresignedFiles)
        upload = await store.presign("folder/key", size=len(DATA), expires_seconds=600)
        assert 0 <= upload.expires_at - time.time() <= 600
        assert upload.headers == {"Content-Length": str(len(DATA))}
        assert upload.url not in repr(upload)
        assert await send(upload) == 200
        assert await read(store, "folder/key") == DATA
        [listed] = await store.list()
        assert (listed.key, listed.size) == ("folder/key", len(DATA))


async def test_the_url_serves_one_key_and_size() -> None:
    """If this fails, a client overwrites the files of others, or fills the bucket."""
    async with S3FileStore(s3_options()) as store:
        await store.put("other", pieces(b"theirs"))
        upload = await store.presign("key", size=len(DATA))
        assert await send(upload, url=upload.url.replace("/key%21", "/other%21")) == 403
        assert await send(upload, DATA + b"x") == 403
        assert await send(upload, DATA[:-1]) == 403
        assert await send(evolve(upload, method="DELETE"), b"") == 403
        longer = upload.url.replace("X-Amz-Expires=900", "X-Amz-Expires=3600")
        assert longer != upload.url
        assert await send(upload, url=longer) == 403
        assert await read(store, "other") == b"theirs"
        assert [file.key for file in await store.list()] == ["other"]


async def test_the_type_is_bound() -> None:
    """If this fails, a client stores a page of scripts under a URL that was made for a drawing."""
    async with S3FileStore(s3_options()) as store:
        upload = await store.presign("key", size=len(DATA), content_type="image/png")
        assert upload.headers["Content-Type"] == "image/png"
        assert await send(upload, headers={"Content-Type": "text/html"}) == 403
        assert await send(upload) == 200


async def test_the_url_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a URL that leaked can be used for ever."""
    async with S3FileStore(s3_options()) as store:
        before = datetime.now(tz=UTC) - timedelta(seconds=61)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: before)
        expired = await store.presign("key", size=len(DATA), expires_seconds=60)
        living = await store.presign("key", size=len(DATA), expires_seconds=600)
        monkeypatch.undo()
        assert expired.expires_at == int(before.timestamp()) + 60
        assert await send(expired) == 403
        assert await store.list() == []
        assert await send(living) == 200


async def test_encryption_is_part_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, files that clients put themselves lie unencrypted in the bucket."""
    async with S3FileStore(s3_options()) as store:
        options = evolve(s3_options(), server_side_encryption="aws:kms", kms_key_id="key-1")
        monkeypatch.setattr(store, "_options", options)
        monkeypatch.setattr(store._client, "options", options)
        upload = await store.presign("key", size=1)
    assert upload.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert upload.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
    [signed] = parse_qs(urlsplit(upload.url).query)["X-Amz-SignedHeaders"]
    assert {name.lower() for name in upload.headers} | {"host"} == set(signed.split(";"))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"key": "../a"}, "key"),
        ({"size": 0}, "size"),
        ({"size": 6 * 1024**3}, "size"),
        ({"expires_seconds": 0}, "expires_seconds"),
        ({"expires_seconds": 3601}, "expires_seconds"),
        ({"expires_seconds": True}, "expires_seconds"),
    ],
)
async def test_what_cannot_be_presigned(wrong: dict[str, object], name: str) -> None:
    """If this fails, a URL is handed out that lasts for days, or that no server takes."""
    async with S3FileStore(s3_options()) as store:
        with pytest.raises(InvalidParameterError) as caught:
            await store.presign(**{"key": "key", "size": 1, **wrong})  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.name == name


def test_stores_on_disk_offer_no_urls() -> None:
    """If this fails, the API offers uploads into a store that cannot take them."""
    assert not isinstance(LocalFileStore("files"), PresignedFiles)
