"""One file on its way out of a bucket, taken up again where the connection broke off."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import anyio

from dedup2d.errors import FileNotStoredError
from dedup2d.files.s3_client import CallFailedError, Failure, S3Client, mapped

__all__ = ["Download"]

_CHUNK = 1024 * 1024
_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before it is tried again, without a byte between."""


class Download:
    """
    Reads the object *name*, the file of *key*; `close` must be called.

    What is read is one object: if it is replaced while a connection breaks, reading fails.
    """

    def __init__(self, client: S3Client, name: str, key: str) -> None:
        self._client = client
        self._name = name
        self._key = key
        self._body: Any = None
        self._at = 0
        self._size = -1
        self._tag = ""
        self._failures = 0
        self._last_byte = 0.0

    async def read(self) -> bytes:
        """
        Return the next bytes, at most 1 MiB; none at the end.

        Raises:
            FileNotStoredError: there is no such object.
            StoreUnavailableError: the server fails, also when asked again.
        """
        while self._at != self._size:
            try:
                return await self._next()
            except CallFailedError as error:
                self.close()
                await self._wait(error)
        return b""

    def close(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    async def _next(self) -> bytes:
        if self._body is None:
            await self._begin()
            if self._at == self._size:
                return b""
        with mapped():
            chunk: bytes = await self._body.read(_CHUNK)
        if not chunk:
            raise CallFailedError("the connection to the S3 server broke off", Failure.BROKEN)
        self._at += len(chunk)
        self._failures, self._last_byte = 0, anyio.current_time()
        return chunk

    async def _begin(self) -> None:
        wanted: dict[str, Any] = {"Range": f"bytes={self._at}-", "IfMatch": self._tag} if self._at else {}
        try:
            answer = await self._client.call("get_object", Key=self._name, **wanted)
        except CallFailedError as error:
            raise self._meant(error) from error
        self._body = answer["Body"]
        if self._at:
            self._check_rest(answer)
        self._size = self._at + answer["ContentLength"]
        self._tag, self._last_byte = answer["ETag"], anyio.current_time()

    def _meant(self, error: CallFailedError) -> Exception:
        if error.status == HTTPStatus.NOT_FOUND and error.answer != "NoSuchBucket":
            return FileNotStoredError(self._key)
        if error.status in {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
            return _replaced()
        return error

    def _check_rest(self, answer: Any) -> None:
        """Check that the answer goes on where the last one ended: a server may ignore what it was asked."""
        place = f"bytes {self._at}-{self._size - 1}/{self._size}"
        if answer["ETag"] != self._tag or answer.get("ContentRange") != place:
            raise _replaced()

    async def _wait(self, error: CallFailedError) -> None:
        """Return when it may be tried again; raise *error* if there is no use."""
        patience = self._client.options.read_seconds * 2
        begun = self._tag and anyio.current_time() - self._last_byte < patience
        if not (begun and error.passing and self._failures < len(_PAUSES)):
            raise error
        self._failures += 1
        await anyio.sleep(_PAUSES[self._failures - 1])


def _replaced() -> CallFailedError:
    return CallFailedError("the file was replaced while it was read", Failure.STRANGE)
