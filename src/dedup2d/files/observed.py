"""A file store that tells an observer of every call: how it went, how long it took, how many bytes passed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any, Self

from attrs import define

from dedup2d.observe import CANCELED, Observer, outcome_of
from dedup2d.protocols import Clocked, FileStore, HalfUploads, LocalFiles, PresignedFiles
from dedup2d.types import HalfUpload, PresignedUpload, StoredFile

__all__ = ["observed"]

_NAMES = {"LocalFileStore": "local", "MemoryFileStore": "memory", "S3FileStore": "s3"}
_OTHER = "other"
_OPERATIONS = ("put", "open", "delete", "list")


def observed(files: FileStore, observer: Observer) -> FileStore:
    """Return *files*, with all that it offers, as a store whose calls *observer* hears of."""
    offers = tuple(own for offer, own in _OFFERS.items() if isinstance(files, offer))
    store: FileStore = _kind(offers)(files, observer)
    return store


@cache
def _kind(offers: tuple[type[Any], ...]) -> type[Any]:
    """Return a class that offers just what the store does: callers ask by `isinstance`."""
    return type("ObservedFiles", (*offers, _Observed), {})


@define
class _Call:
    """One call under way."""

    size: int = 0
    waited: float = 0.0
    outcome: str | None = None


class _Observed:
    def __init__(self, files: Any, observer: Observer) -> None:
        self._files = files
        self._observer = observer
        self._backend = _NAMES.get(type(files).__name__, _OTHER)
        offered = [operation for offer, operation in _OFFERED if isinstance(files, offer)]
        observer.file_store(self._backend, [*_OPERATIONS, *offered])

    async def __aenter__(self) -> Self:
        await self._files.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._files.__aexit__(exc_type, exc, traceback)

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> StoredFile:
        with self._call("put") as call:
            stored: StoredFile = await self._files.put(key, _timed(chunks, call))
            call.size = stored.size
        return stored

    async def open(self, key: str) -> AsyncGenerator[bytes, None]:
        with self._call("open") as call:
            chunks: AsyncIterator[bytes] = self._files.open(key)
            try:
                async for chunk in chunks:
                    call.size += len(chunk)
                    left = time.perf_counter()
                    yield chunk
                    call.waited += time.perf_counter() - left
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

    async def delete(self, key: str) -> bool:
        with self._call("delete"):
            deleted: bool = await self._files.delete(key)
        return deleted

    async def list(
        self, *, prefix: str = "", older_than: float | None = None, limit: int = 1000, after: str = ""
    ) -> Sequence[StoredFile]:
        with self._call("list"):
            listed: Sequence[StoredFile] = await self._files.list(
                prefix=prefix, older_than=older_than, limit=limit, after=after
            )
        return listed

    @contextmanager
    def _call(self, operation: str) -> Iterator[_Call]:
        begin, call = time.perf_counter(), _Call()
        try:
            yield call
            call.outcome = "ok"
        except Exception as error:
            call.outcome = call.outcome or outcome_of(error)
            raise
        finally:
            seconds = max(0.0, time.perf_counter() - begin - call.waited)
            outcome = call.outcome or CANCELED
            self._observer.file_operation(self._backend, operation, outcome, seconds, call.size)


async def _timed(chunks: AsyncIterable[bytes], call: _Call) -> AsyncGenerator[bytes, None]:
    """Pass on what the caller gives; neither its slowness nor its errors are the store's."""
    iterator = aiter(chunks)
    while True:
        asked = time.perf_counter()
        try:
            chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except Exception as error:
            call.outcome = _of_caller(error)
            raise
        finally:
            call.waited += time.perf_counter() - asked
        yield chunk


def _of_caller(error: Exception) -> str:
    code = outcome_of(error)
    return CANCELED if code in ("INTERNAL", "STORE_UNAVAILABLE") else code


class _Local(_Observed):
    def local_path(self, key: str) -> str:
        path: str = self._files.local_path(key)
        return path


class _Presigned(_Observed):
    async def presign(
        self, key: str, *, size: int, content_type: str | None = None, expires_seconds: int = 900
    ) -> PresignedUpload:
        with self._call("presign"):
            upload: PresignedUpload = await self._files.presign(
                key, size=size, content_type=content_type, expires_seconds=expires_seconds
            )
        return upload


class _Halves(_Observed):
    @property
    def longest_upload_seconds(self) -> float:
        seconds: float = self._files.longest_upload_seconds
        return seconds

    def half_uploads(self, *, older_than: float) -> AsyncIterator[HalfUpload]:
        uploads: AsyncIterator[HalfUpload] = self._files.half_uploads(older_than=older_than)
        return uploads

    async def abandon(self, upload: HalfUpload) -> bool:
        with self._call("abandon"):
            abandoned: bool = await self._files.abandon(upload)
        return abandoned


class _Clock(_Observed):
    async def now(self) -> float:
        now: float = await self._files.now()
        return now


_OFFERS: dict[type[Any], type[Any]] = {
    LocalFiles: _Local,
    PresignedFiles: _Presigned,
    HalfUploads: _Halves,
    Clocked: _Clock,
}
_OFFERED = ((PresignedFiles, "presign"), (HalfUploads, "abandon"))
