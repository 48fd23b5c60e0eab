"""
The one `GeometryStore`: on any `FileStore`, beside the uploads.

A geometry is a gzip under `_geometry/TENANT/HA/HASH.json.gz`, a key that no upload can have. It is as atomic
as files of that store are. Whoever reads it expands no more than a geometry may have, whatever lies there.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from dedup2d.errors import FileNotStoredError, InvalidParameterError, UnreadableRecordError
from dedup2d.files.keys import geometry_key
from dedup2d.protocols import MAX_GEOMETRY_BYTES, FileStore, LocalFiles

__all__ = ["MAX_PACKED_BYTES", "FileGeometryStore"]

_LEVEL = 6
_CHUNK = 1024 * 1024
MAX_PACKED_BYTES = MAX_GEOMETRY_BYTES + 64 * 1024
"""What cannot be compressed becomes a little larger."""


class FileGeometryStore:
    """
    A `GeometryStore` that keeps its geometries in *files*, which whoever made it opens and closes.

    Args:
        files: where; may hold uploads too.
    """

    def __init__(self, files: FileStore) -> None:
        self._files = files

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return

    async def put(self, tenant_id: str, file_hash: str, data: bytes) -> None:
        if not 0 < len(data) <= MAX_GEOMETRY_BYTES:
            raise InvalidParameterError(
                "geometry", f"{len(data):,} bytes", f"geometry JSON of 1 to {MAX_GEOMETRY_BYTES:,} bytes"
            )
        await self._put(geometry_key(tenant_id, file_hash), await anyio.to_thread.run_sync(_packed, data))

    async def get(self, tenant_id: str, file_hash: str) -> bytes | None:
        packed = await self._get(tenant_id, file_hash)
        return None if packed is None else await anyio.to_thread.run_sync(_unpacked, packed)

    async def get_packed(self, tenant_id: str, file_hash: str) -> bytes | None:
        """Return the gzip of what `get` returns, as it is stored; raise what that raises."""
        packed = await self._get(tenant_id, file_hash)
        if packed is not None:
            await anyio.to_thread.run_sync(_unpacked, packed)
        return packed

    async def put_packed(self, tenant_id: str, file_hash: str, packed: bytes) -> None:
        """
        Store what `get_packed` returned, maybe elsewhere.

        Raises:
            UnreadableRecordError: *packed* is not the gzip of a geometry.
        """
        key = geometry_key(tenant_id, file_hash)
        if len(packed) > MAX_PACKED_BYTES or not await anyio.to_thread.run_sync(_unpacked, packed):
            raise UnreadableRecordError("stored geometry", "it is empty or too large")
        await self._put(key, packed)

    async def _put(self, key: str, packed: bytes) -> None:
        await self._files.put(key, _chunks(packed))

    async def _get(self, tenant_id: str, file_hash: str) -> bytes | None:
        packed = bytearray()
        try:
            async with aclosing(self._files.open(geometry_key(tenant_id, file_hash))) as chunks:  # type: ignore[type-var]  # generators have aclose
                async for chunk in chunks:
                    packed += chunk
                    if len(packed) > MAX_PACKED_BYTES:
                        raise UnreadableRecordError("stored geometry", "it is too large")
        except FileNotStoredError:
            return None
        return bytes(packed)

    async def exists(self, tenant_id: str, file_hash: str) -> bool:
        key = geometry_key(tenant_id, file_hash)
        if isinstance(self._files, LocalFiles):
            return await anyio.Path(self._files.local_path(key)).is_file()
        return any(stored.key == key for stored in await self._files.list(prefix=key, limit=1))

    async def delete(self, tenant_id: str, file_hash: str) -> bool:
        return await self._files.delete(geometry_key(tenant_id, file_hash))


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _packed(data: bytes) -> bytes:
    """Compress without a time in it, so that the same geometry is the same file."""
    return gzip.compress(data, _LEVEL, mtime=0)


def _unpacked(packed: bytes) -> bytes:
    expander = zlib.decompressobj(wbits=31)
    try:
        data = expander.decompress(packed, MAX_GEOMETRY_BYTES + 1)
    except zlib.error:
        raise UnreadableRecordError("stored geometry", "its gzip is damaged") from None
    if len(data) > MAX_GEOMETRY_BYTES:
        raise UnreadableRecordError("stored geometry", f"it has more than {MAX_GEOMETRY_BYTES:,} bytes")
    if not expander.eof or expander.unused_data:
        raise UnreadableRecordError("stored geometry", "its gzip is incomplete, or something follows it")
    return data
