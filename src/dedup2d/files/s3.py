"""A file store in a bucket of S3, or of a server that speaks as it does (MinIO, Ceph and others)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from dedup2d.errors import ConfigurationError, InvalidParameterError
from dedup2d.files.keys import check_key
from dedup2d.files.s3_client import CallFailedError, S3Client, mapped
from dedup2d.files.s3_download import Download
from dedup2d.files.s3_names import Names, may_begin_a_key
from dedup2d.files.s3_options import S3Options
from dedup2d.files.s3_probe import S3Facts, probe
from dedup2d.files.s3_upload import Budget, Upload, answered_at
from dedup2d.types import HalfUpload, PresignedUpload, StoredFile

__all__ = ["S3Facts", "S3FileStore", "S3Options"]

_PAGE = 1000
_LONGEST_PRESIGNED_SECONDS = 3600
_LONGEST_UPLOAD_SECONDS = 86_400.0


class S3FileStore:
    """
    A `FileStore`, `PresignedFiles`, `HalfUploads` and `Clocked` in a bucket, for any number of processes of
    any number of machines.

    The age of a file is by the server's clock, to the second. Every upload carries MD5 sums, which the
    server checks. Nothing is used that some servers lack: conditional writes, bulk deletes, checksums
    in trailers. An upload that was not acknowledged because the connection broke may be stored nevertheless.

    Args:
        options: which bucket, and how.
        clock: gives the Unix time of a put where the server does not say it.
    """

    def __init__(self, options: S3Options, *, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._clock = clock
        self._names = Names(options.prefix)
        self._budget = Budget(options.buffer_bytes)
        self._open_things = AsyncExitStack()
        self._connected: S3Client | None = None

    async def __aenter__(self) -> Self:
        """
        Connect, and see whether the bucket can be used.

        Raises:
            ConfigurationError: it cannot; the error names the setting, the reason and what to do.
            StoreUnavailableError: the server answers, but cannot work now.
        """
        _check_temporary_directory()
        async with AsyncExitStack() as stack:
            self._connected = await stack.enter_async_context(S3Client.connected(self._options))
            await self.probe()
            self._open_things = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connected = None
        await self._open_things.aclose()

    async def probe(self) -> S3Facts:
        """
        List, put, get and delete a tiny object under the prefix.

        Raises: as `__aenter__`.
        """
        return await probe(self._client)

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> StoredFile:
        check_key(key)
        async with Upload(self._client, self._names.name(key), self._budget) as upload:
            async for chunk in chunks:
                await upload.take(chunk)
            sent = await upload.finish()
        created_at = self._clock() if sent.created_at is None else sent.created_at
        return StoredFile(key=key, size=sent.size, created_at=created_at, sha256=sent.sha256)

    async def open(self, key: str) -> AsyncIterator[bytes]:
        check_key(key)
        download = Download(self._client, self._names.name(key), key)
        try:
            while chunk := await download.read():
                yield chunk
        finally:
            download.close()

    async def delete(self, key: str) -> bool:
        check_key(key)
        name = self._names.name(key)
        # The server answers the same whether there was something to delete or not.
        try:
            await self._client.call("head_object", Key=name)
        except CallFailedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        await self._client.call("delete_object", Key=name)
        return True

    async def list(
        self, *, prefix: str = "", older_than: float | None = None, limit: int = 1000, after: str = ""
    ) -> Sequence[StoredFile]:
        found: list[StoredFile] = []
        if limit <= 0 or not may_begin_a_key(prefix):
            return found
        start = self._names.name(after) if after else ""
        async for item in self._objects(self._names.base + prefix, start, page=min(limit, _PAGE)):
            key = self._names.key(item["Key"])
            created_at = item["LastModified"].timestamp()
            if key is None or key <= after or (older_than is not None and created_at >= older_than):
                continue
            found.append(StoredFile(key=key, size=item["Size"], created_at=created_at))
            if len(found) == limit:
                break
        return found

    @property
    def longest_upload_seconds(self) -> float:
        return _LONGEST_UPLOAD_SECONDS

    async def half_uploads(self, *, older_than: float) -> AsyncIterator[HalfUpload]:
        """
        Give the multipart uploads of keys that began before the Unix time *older_than* and have not ended.

        A process that dies in the middle of an upload leaves what it has sent so far, which no list
        of files shows but which takes space. MinIO does not tell of such uploads, and removes them by itself.
        """
        async for upload in self._uploads():
            begun_at, key = upload["Initiated"].timestamp(), self._names.key(upload["Key"])
            if begun_at < older_than and key is not None:
                token = upload["UploadId"]
                yield HalfUpload(name=key, key=key, size=0, begun_at=begun_at, token=token)

    async def abandon(self, upload: HalfUpload) -> bool:
        name = self._names.name(upload.key)
        try:
            await self._client.call("abort_multipart_upload", Key=name, UploadId=upload.token)
        except CallFailedError as error:
            # It was completed or aborted meanwhile.
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    async def now(self) -> float:
        answer = await self._client.call("list_objects_v2", Prefix=self._names.base, MaxKeys=1)
        said = answered_at(answer)
        return self._clock() if said is None else said

    async def presign(
        self, key: str, *, size: int, content_type: str | None = None, expires_seconds: int = 900
    ) -> PresignedUpload:
        """
        Return a URL by which somebody without credentials may put *size* bytes under *key*.

        Args:
            key: where the file will be.
            size: bytes it has; others are refused by the server.
            content_type: what the client will name as `Content-Type`, if it does.
            expires_seconds: how long the URL can be used, 1 to 3600; less if the credentials end before.

        Raises:
            InvalidParameterError: a value is not allowed.
        """
        check_key(key)
        _check_whole("size", size, 5 * 1024**3)
        _check_whole("expires_seconds", expires_seconds, _LONGEST_PRESIGNED_SECONDS)
        parameters: dict[str, Any] = {"ContentLength": size, **self._options.encryption}
        if content_type is not None:
            parameters["ContentType"] = content_type
        with mapped():
            url = await self._client.raw.generate_presigned_url(
                "put_object",
                Params={"Bucket": self._options.bucket, "Key": self._names.name(key), **parameters},
                ExpiresIn=expires_seconds,
            )
        return PresignedUpload(
            url=url, headers=_headers(parameters), expires_at=_signed_at(url) + expires_seconds
        )

    @property
    def _client(self) -> S3Client:
        assert self._connected is not None, "use the store between __aenter__ and __aexit__"
        return self._connected

    async def _objects(self, prefix: str, start: str, *, page: int) -> AsyncIterator[Mapping[str, Any]]:
        """Give all objects under *prefix* after the name *start*, asking for *page* at a time."""
        while True:
            wanted: dict[str, Any] = {"StartAfter": start} if start else {}
            answer = await self._client.call("list_objects_v2", Prefix=prefix, MaxKeys=page, **wanted)
            objects = answer.get("Contents", [])
            for each in objects:
                yield each
            if not objects or not answer.get("IsTruncated"):
                return
            start = objects[-1]["Key"]

    async def _uploads(self) -> AsyncIterator[Mapping[str, Any]]:
        wanted: dict[str, Any] = {}
        while True:
            answer = await self._client.call("list_multipart_uploads", Prefix=self._names.base, **wanted)
            for each in answer.get("Uploads", []):
                yield each
            if not answer.get("IsTruncated"):
                return
            wanted = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer.get("NextUploadIdMarker", ""),
            }


def _check_temporary_directory() -> None:
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise ConfigurationError("TMPDIR", "", "a directory in which files can be made") from error


def _check_whole(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidParameterError(name, value, f"a whole number from 1 to {most:,}")


_HEADERS = {
    "ContentLength": "Content-Length",
    "ContentType": "Content-Type",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
}


def _headers(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {_HEADERS[name]: str(value) for name, value in parameters.items()}


def _signed_at(url: str) -> float:
    """Return the time from which the URL counts: that of its signature."""
    [signed] = parse_qs(urlsplit(url).query)["X-Amz-Date"]
    return datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
