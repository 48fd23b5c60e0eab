"""
Deletes stored geometries of which no drawing is left: at once when the last is removed, else by `dedup2d gc`.

A geometry is needed as long as the tenant's index has a drawing of the same file. One that is younger than
the retention stays, as its drawing may be on the way. All of a tenant stay while its index has no drawing at
all: it may lie on another machine, or be about to be restored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection

from attrs import define, field

from dedup2d.collecting import Collected, Deleter, Waste
from dedup2d.errors import VisionUnsupportedError
from dedup2d.files.keys import GEOMETRY_PREFIX, geometry_owner
from dedup2d.protocols import GeometryStore, KnowsFiles, VisionClient
from dedup2d.types import StoredFile

__all__ = ["GeometryCollector", "files_in_index", "forget_geometry"]

_PAGE = 500


async def files_in_index(vision: VisionClient, tenant_id: str, file_hashes: Collection[str]) -> set[str]:
    """
    Return those of *file_hashes*, up to 1000, of which the tenant's index has a drawing.

    Where the client cannot be asked this, all drawings are listed until all are found.

    Raises:
        VisionUnsupportedError: nor can it list drawings.
        VisionUnavailableError: may pass; try again later.
    """
    if isinstance(vision, KnowsFiles):
        return set(await vision.indexed_files(tenant_id, file_hashes))
    wanted, token = set(file_hashes), None
    found: set[str] = set()
    while found != wanted:
        page = await vision.drawings(tenant_id, limit=_PAGE, page_token=token)
        found.update(wanted.intersection(drawing.file_hash for drawing in page.drawings))
        token = page.next_page_token
        if token is None:
            break
    return found


async def forget_geometry(
    geometries: GeometryStore, vision: VisionClient, tenant_id: str, file_hash: str
) -> bool:
    """
    Delete the geometry of a file of which the last drawing was just removed, and say whether that was done.

    It stays where another drawing of the file is there, or *vision* can only list all of them: then the next
    `dedup2d gc` finds out. A file that is added again meanwhile keeps its geometry, if whoever adds it stores
    that after the drawing, as the contract of `GeometryStore` says.

    Raises:
        VisionUnavailableError, StoreUnavailableError: may pass; the next `dedup2d gc` does it.
    """
    if not isinstance(vision, KnowsFiles) or await vision.indexed_files(tenant_id, [file_hash]):
        return False
    data = await geometries.get(tenant_id, file_hash)
    deleted = await geometries.delete(tenant_id, file_hash)
    if data is not None and await vision.indexed_files(tenant_id, [file_hash]):
        await geometries.put(tenant_id, file_hash, data)
        return False
    return deleted


@define(kw_only=True, eq=False)
class GeometryCollector(Deleter):
    """Goes once through the geometries in a file store and deletes those that nobody needs."""

    vision: VisionClient
    kept_unknown: bool = field(default=False, init=False)
    """Whether geometries stayed because the vision server cannot say which drawings it has."""
    _has_drawings: dict[str, bool] = field(factory=dict, init=False)

    async def run(self) -> Collected:
        """
        Delete what nobody needs, and say what that was; `collected` has it also if this raises.

        Raises:
            StoreUnavailableError, VisionUnavailableError: a store or the vision engine does not work.
        """
        async for page in self._old(await self.now() - self.retention_seconds):
            by_tenant: defaultdict[str, dict[str, StoredFile]] = defaultdict(dict)
            for stored in page:
                owner = geometry_owner(stored.key)
                if owner is not None:
                    by_tenant[owner[0]][owner[1]] = stored
            for tenant_id, geometries in by_tenant.items():
                await self._look_at(tenant_id, geometries)
        return self.collected

    async def _old(self, before: float) -> AsyncIterator[list[StoredFile]]:
        after = ""
        while page := await self.files.list(prefix=GEOMETRY_PREFIX, older_than=before, after=after):
            yield list(page)
            after = page[-1].key

    async def _look_at(self, tenant_id: str, geometries: dict[str, StoredFile]) -> None:
        try:
            if not await self._has_any(tenant_id):
                return
            needed = await files_in_index(self.vision, tenant_id, geometries.keys())
        except VisionUnsupportedError:
            self.kept_unknown = True
            return
        for file_hash, stored in geometries.items():
            if file_hash not in needed:
                await self._delete(stored)

    async def _has_any(self, tenant_id: str) -> bool:
        if tenant_id not in self._has_drawings:
            self._has_drawings[tenant_id] = (await self.vision.drawings(tenant_id, limit=1)).total > 0
        return self._has_drawings[tenant_id]

    async def _delete(self, stored: StoredFile) -> None:
        async def delete() -> bool:
            return await self._is_unchanged(stored) and await self.files.delete(stored.key)

        await self.delete_file(Waste("geometry", stored.key, stored.size, stored.created_at), delete)

    async def _is_unchanged(self, stored: StoredFile) -> bool:
        """Look again: since it was listed, its drawing may have been added anew."""
        found = await self.files.list(prefix=stored.key, limit=1)
        return any(one.key == stored.key and one.created_at == stored.created_at for one in found)
