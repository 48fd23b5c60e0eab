"""A file store in memory: for tests, and for small services that may forget at a restart."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from hashlib import sha256
from heapq import nsmallest
from types import TracebackType
from typing import Self

from anyio.lowlevel import checkpoint
from attrs import frozen

from dedup2d.errors import FileNotStoredError, StoreUnavailableError
from dedup2d.files.keys import check_key
from dedup2d.types import StoredFile

__all__ = ["MemoryFileStore"]

_CHUNK = 1024 * 1024


@frozen
class _Held:
    data: bytes
    stored: StoredFile


class MemoryFileStore:
    """
    A `FileStore` that lives and dies with its process, for one event loop.

    A file is held as a whole; `put` raises `StoreUnavailableError` rather than hold more
    than *max_bytes* in all, what is being put included.

    Args:
        max_bytes: most bytes of all files together.
        clock: gives the Unix time.
    """

    def __init__(self, *, max_bytes: int = 1024**3, clock: Callable[[], float] = time.time) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._used = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.clear()
        self._used = 0

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> StoredFile:
        check_key(key)
        await checkpoint()
        incoming = bytearray()
        try:
            async for chunk in chunks:
                self._reserve(len(chunk))
                incoming += chunk
        except BaseException:
            self._used -= len(incoming)
            raise
        return self._keep(key, bytes(incoming))

    async def open(self, key: str) -> AsyncIterator[bytes]:
        check_key(key)
        await checkpoint()
        held = self._held.get(key)
        if held is None:
            raise FileNotStoredError(key)
        for start in range(0, len(held.data), _CHUNK):
            yield held.data[start : start + _CHUNK]

    async def delete(self, key: str) -> bool:
        check_key(key)
        await checkpoint()
        held = self._held.pop(key, None)
        if held is None:
            return False
        self._used -= held.stored.size
        return True

    async def list(
        self, *, prefix: str = "", older_than: float | None = None, limit: int = 1000, after: str = ""
    ) -> Sequence[StoredFile]:
        await checkpoint()
        fitting = (
            held.stored
            for key, held in self._held.items()
            if key.startswith(prefix)
            and key > after
            and (older_than is None or held.stored.created_at < older_than)
        )
        return nsmallest(limit, fitting, key=lambda stored: stored.key)

    def _reserve(self, size: int) -> None:
        if self._used + size > self._max_bytes:
            raise StoreUnavailableError("file store", f"its {self._max_bytes:,} bytes are full")
        self._used += size

    def _keep(self, key: str, data: bytes) -> StoredFile:
        stored = StoredFile(
            key=key, size=len(data), created_at=self._clock(), sha256=sha256(data).hexdigest()
        )
        replaced = self._held.get(key)
        if replaced is not None:
            self._used -= replaced.stored.size
        self._held[key] = _Held(data, stored)
        return stored
