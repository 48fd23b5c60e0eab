"""The geometries of indexes in a backup: out of a file store into a tar, and back."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cached_property, partial
from pathlib import Path
from typing import IO

from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import frozen

from dedup2d.backup.archive import ArchiveError, next_file, skip_padding, write_file
from dedup2d.errors import UnreadableRecordError
from dedup2d.files.keys import geometries_of, geometry_owner
from dedup2d.geometry.storing import MAX_PACKED_BYTES, FileGeometryStore
from dedup2d.protocols import FileStore
from dedup2d.types import StoredFile

__all__ = ["Geometries", "Written"]

_PAGE = 1000
_NAME = re.compile(r"([0-9a-f]{64})\.json\.gz")


@frozen
class Written:
    """How many geometries were written, and how many were left out as they are damaged."""

    geometries: int
    damaged: int


class Geometries:
    """
    The geometries in a store, for those who have no event loop.

    Args:
        files: gives the store, which is opened when it is first needed.
        stack: closes it.
    """

    def __init__(self, files: Callable[[], FileStore], stack: ExitStack) -> None:
        self._build = files
        self._stack = stack

    @cached_property
    def _portal(self) -> BlockingPortal:
        return self._stack.enter_context(start_blocking_portal("asyncio"))

    @cached_property
    def _files(self) -> FileStore:
        return self._stack.enter_context(self._portal.wrap_async_context_manager(self._build()))

    def bytes_of(self, tenant: str) -> int:
        """Return about how many bytes the tenant's geometries have, compressed as they are."""
        return sum(stored.size for stored in self._listed(tenant))

    def write(self, tenant: str, catalogue: Path, to: IO[bytes]) -> Written:
        """
        Write those of which the database at *catalogue* has a drawing into the tar *to*.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        written = damaged = 0
        with closing(sqlite3.connect(catalogue)) as connection:
            for stored in self._listed(tenant):
                owner = geometry_owner(stored.key)
                if owner is None or not _has_file(connection, owner[1]):
                    continue
                try:
                    packed = self._portal.call(FileGeometryStore(self._files).get_packed, *owner)
                except UnreadableRecordError:
                    damaged += 1
                    continue
                if packed is not None:  # it was not deleted meanwhile
                    write_file(to, f"{owner[1]}.json.gz", packed)
                    written += 1
        return Written(written, damaged)

    def restore(self, tenant: str, source: IO[bytes], count: int) -> None:
        """
        Store the *count* geometries that the tar *source* has; those of the same files are replaced.

        Raises:
            ArchiveError: it has something else, or one is damaged; others may be stored then.
            StoreUnavailableError: the store does not answer.
        """
        for _ in range(count):
            name, size = next_file(source)
            found = _NAME.fullmatch(name)
            if found is None or not 0 < size <= MAX_PACKED_BYTES:
                raise ArchiveError(
                    f"among the geometries of {tenant} is something else than a sha256 and .json.gz"
                    f" with at most {MAX_PACKED_BYTES:,} bytes"
                )
            packed = source.read(size)
            try:
                self._portal.call(FileGeometryStore(self._files).put_packed, tenant, found[1], packed)
            except UnreadableRecordError:
                raise ArchiveError(f"the geometry of {tenant}'s file {found[1]} is damaged") from None
            skip_padding(source, size)
        if source.read(1):
            raise ArchiveError(f"something follows the geometries of {tenant}")

    def _listed(self, tenant: str) -> Iterator[StoredFile]:
        after = ""
        while True:
            listed = partial(self._files.list, prefix=geometries_of(tenant), limit=_PAGE, after=after)
            page = self._portal.call(listed)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].key


def _has_file(connection: sqlite3.Connection, file_hash: str) -> bool:
    found = connection.execute("SELECT 1 FROM files WHERE file_hash = ?", (file_hash,)).fetchone()
    return found is not None
