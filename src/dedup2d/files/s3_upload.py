"""
One file on its way into a bucket.

A file of less than a part is one request, a larger one a multipart upload. A part is
gathered in memory while it is small and all uploads together are within their budget, else in
an unnamed temporary file: so memory is bounded for any number of uploads, and a client that
sends slowly keeps no other one waiting for memory. Its disk space is one part.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from io import BytesIO
from types import TracebackType
from typing import IO, Any, Self

from anyio import move_on_after, to_thread
from attrs import define, frozen

from dedup2d.errors import StoreUnavailableError
from dedup2d.files.s3_client import CallFailedError, Failure, S3Client

__all__ = ["Budget", "Sent", "Upload", "answered_at"]

PART_BYTES = 8 * 1024 * 1024
"""Size of every part but the last; S3 takes 5 MiB to 5 GiB, and at most 10,000 of them."""
_IN_MEMORY_BYTES = 256 * 1024
_ABORT_SECONDS = 10.0
_TRIES = 5


@define
class Budget:
    """Bytes that all uploads together hold in memory."""

    limit: int
    used: int = 0

    def take(self, size: int) -> bool:
        """Note *size* more; say whether it is within the limit."""
        self.used += size
        return self.used <= self.limit

    def give(self, size: int) -> None:
        self.used -= size


@frozen
class Sent:
    """What was stored; `created_at` is the server's time, None if it did not say."""

    size: int
    sha256: str
    created_at: float | None


class _Part:
    """The bytes of one request, gathered before they are sent: a request must say its size and MD5."""

    def __init__(self, budget: Budget) -> None:
        self.size = 0
        self._budget = budget
        self._waiting: list[bytes] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._whole = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def sha256(self) -> str:
        """Hash of everything since the first part."""
        return self._whole.hexdigest()

    @property
    def md5(self) -> str:
        return base64.b64encode(self._md5.digest()).decode()

    def hold(self, piece: bytes) -> bool:
        """Hold *piece* in memory; say whether it is time to `spill`."""
        self._waiting.append(piece)
        self._held += len(piece)
        self.size += len(piece)
        return not self._budget.take(len(piece)) or self._held >= _IN_MEMORY_BYTES

    def spill(self) -> None:
        """Move what is held in memory to the temporary file."""
        with _disk():
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
            for piece in self._pieces():
                self._file.write(piece)
            # Whoever sends the file asks the system for its size.
            self._file.flush()
        self._let_go()

    def body(self) -> IO[bytes]:
        """Return all bytes since the last `begin`, to be read from the start until the next one."""
        if self._file is None:
            return BytesIO(b"".join(self._pieces()))
        self.spill()
        self._file.seek(0)
        return self._file

    def begin(self) -> None:
        """Begin the next part."""
        self._let_go()
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        if self._file is not None:
            with _disk():
                self._file.seek(0)
                self._file.truncate()

    def close(self) -> None:
        self._waiting.clear()
        self._let_go()
        if self._file is not None:
            self._file.close()

    def _pieces(self) -> Iterator[bytes]:
        waiting, self._waiting = self._waiting, []
        for piece in waiting:
            self._whole.update(piece)
            self._md5.update(piece)
            yield piece

    def _let_go(self) -> None:
        self._budget.give(self._held)
        self._held = 0


class Upload:
    """
    One upload to the object *name*; use it as a context, which ends what is half done.

    The object is as it was before until `finish` is at its end.
    """

    def __init__(self, client: S3Client, name: str, budget: Budget) -> None:
        self._client = client
        self._name = name
        self._part = _Part(budget)
        self._size = 0
        self._upload_id: str | None = None
        self._tags: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._part.close()
        if self._upload_id is not None:
            # Also when cancelled: a half upload costs space until somebody looks for it.
            with move_on_after(_ABORT_SECONDS, shield=True), suppress(StoreUnavailableError):
                await self._call("abort_multipart_upload", UploadId=self._upload_id)

    async def take(self, chunk: bytes) -> None:
        """
        Take the next bytes, and send them when they are enough.

        Raises:
            StoreUnavailableError: the server or the disk of this machine fails.
        """
        left = memoryview(chunk)
        while left:
            piece = left[: min(_IN_MEMORY_BYTES, PART_BYTES - self._part.size)]
            left = left[len(piece) :]
            self._size += len(piece)
            if self._part.hold(chunk if len(piece) == len(chunk) else bytes(piece)):
                await to_thread.run_sync(self._part.spill)
            if self._part.size == PART_BYTES:
                await self._send_part()

    async def finish(self) -> Sent:
        """
        Send the rest, and make the object.

        Raises: as `take`.
        """
        if self._upload_id is None:
            return self._sent(answered_at(await self._send("put_object", **self._client.options.encryption)))
        if self._part.size:
            await self._send_part()
        tags = [{"ETag": tag, "PartNumber": number} for number, tag in enumerate(self._tags, start=1)]
        await self._make(
            "complete_multipart_upload", UploadId=self._upload_id, MultipartUpload={"Parts": tags}
        )
        self._upload_id = None
        # Not every server tells of the object when it is made.
        made = await self._call("head_object")
        if made["ContentLength"] != self._size:
            raise CallFailedError(
                f"the S3 server kept {made['ContentLength']:,} of {self._size:,} bytes", Failure.STRANGE
            )
        return self._sent(made["LastModified"].timestamp())

    def _sent(self, created_at: float | None) -> Sent:
        return Sent(self._size, self._part.sha256, created_at)

    async def _send_part(self) -> None:
        if self._upload_id is None:
            encryption = self._client.options.encryption
            self._upload_id = (await self._call("create_multipart_upload", **encryption))["UploadId"]
        answer = await self._send("upload_part", UploadId=self._upload_id, PartNumber=len(self._tags) + 1)
        self._tags.append(answer["ETag"])
        await to_thread.run_sync(self._part.begin)

    async def _send(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        body = await to_thread.run_sync(self._part.body)
        return await self._make(
            operation, Body=body, ContentMD5=self._part.md5, body_bytes=self._part.size, **parameters
        )

    async def _make(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Call an operation that may make the object, again where the server lost its folder meanwhile."""
        for more in reversed(range(_TRIES)):
            try:
                return await self._call(operation, **parameters)
            except CallFailedError as error:
                # Servers that keep objects as files remove empty folders, also while a file arrives there.
                if error.answer != "NoSuchKey" or not more:
                    raise
                if "Body" in parameters:
                    parameters["Body"].seek(0)
        raise AssertionError

    async def _call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        return await self._client.call(operation, Key=self._name, **parameters)


def answered_at(answer: Mapping[str, Any]) -> float | None:
    """Return the time at which the server answered: the age of an object is by its clock."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, ValueError):
        return None


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"a temporary file cannot be written: {error.strerror}"
        raise StoreUnavailableError("file store", reason) from error
