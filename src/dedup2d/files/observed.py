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
from dedup2d.protocols import FileStore
from dedup2d.types import StoredFile

__all__ = ["observed"]

# By their names: not all can be imported without their extras.
_NAMES = {"LocalFileStore": "local", "MemoryFileStore": "memory", "S3FileStore": "s3"}
_OTHER = "other"
_OPERATIONS = ("put", "open", "delete", "list")


def observed(files: FileStore, observer: Observer) -> FileStore:
    """Return *files*, with all that it offers besides, as a store whose calls *observer* hears of."""
    more = tuple(name for name in dir(type(files)) if not (name.startswith("_") or hasattr(_Observed, name)))
    store: FileStore = _kind(more)(files, observer)
    return store


@cache
def _kind(more: tuple[str, ...]) -> type[Any]:
    """Return a class that passes on *more*: callers ask by `isinstance` what a store offers."""
    return type("ObservedFiles", (_Observed,), {name: _passed_on(name) for name in more})


def _passed_on(name: str) -> property:
    return property(lambda self: getattr(self._files, name))


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
        kinds = [kind.__name__ for kind in type(files).__mro__]
        self._backend = next((_NAMES[kind] for kind in kinds if kind in _NAMES), _OTHER)
        observer.file_store(self._backend, _OPERATIONS)

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
