"""Stored geometries: the contract on each store, broken ones it must refuse, and what is collected when."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from dedup2d.collecting import Collector, Waste, is_upload_key
from dedup2d.collecting_geometries import GeometryCollector, files_in_index, forget_geometry
from dedup2d.errors import Dedup2DError, StoreUnavailableError, UnreadableRecordError, VisionUnsupportedError
from dedup2d.files.keys import GEOMETRY_PREFIX, geometry_key, geometry_owner, is_key
from dedup2d.files.memory import MemoryFileStore
from dedup2d.geometry.storing import FileGeometryStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.protocols import MAX_GEOMETRY_BYTES, FileStore, GeometryStore
from dedup2d.testing import (
    GEOMETRY_STORE_CHECKS,
    ContractError,
    FakeVision,
    ManualClock,
    check_geometry_store,
)
from dedup2d.types import DrawingPage
from dedup2d.uploads import file_in_place
from dedup2d.vision.embedded import EmbeddedVision
from tests.backends import FILE_STORES, GEOMETRY_STORES

pytestmark = pytest.mark.anyio

HASH = "ab" * 32
DATA = b'{"entities":[]}'
HOUR = 3600.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for chunk in data:
        yield chunk


async def keys(files: FileStore) -> list[str]:
    return [stored.key for stored in await files.list()]


@pytest.mark.parametrize("check", GEOMETRY_STORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", GEOMETRY_STORES)
async def test_contract(name: str, check: Callable[[GeometryStore], Awaitable[None]], tmp_path: Path) -> None:
    """If this fails, geometries of this store are lost, damaged, or read by other tenants."""
    with anyio.fail_after(60):
        async with GEOMETRY_STORES[name](tmp_path) as store:
            await check(store)


# -- broken stores, each wrong in one thing ---------------------------------------------------


class SharesAll(FileGeometryStore):
    async def put(self, tenant_id: str, file_hash: str, data: bytes) -> None:
        geometry_key(tenant_id, file_hash)
        await super().put("all", file_hash, data)

    async def get(self, tenant_id: str, file_hash: str) -> bytes | None:
        geometry_key(tenant_id, file_hash)
        return await super().get("all", file_hash)


class KeepsTheFirst(FileGeometryStore):
    async def put(self, tenant_id: str, file_hash: str, data: bytes) -> None:
        if not await self.exists(tenant_id, file_hash):
            await super().put(tenant_id, file_hash, data)


class TakesAnySize(FileGeometryStore):
    async def put(self, tenant_id: str, file_hash: str, data: bytes) -> None:
        await super().put(tenant_id, file_hash, data[:MAX_GEOMETRY_BYTES] or b"{}")


class KnowsNoNames(FileGeometryStore):
    async def exists(self, tenant_id: str, file_hash: str) -> bool:
        try:
            return await super().exists(tenant_id, file_hash)
        except Dedup2DError:
            return False


class DeletesNothing(FileGeometryStore):
    async def delete(self, tenant_id: str, file_hash: str) -> bool:
        return await self.exists(tenant_id, file_hash)


@pytest.mark.parametrize("kind", [SharesAll, KeepsTheFirst, TakesAnySize, KnowsNoNames, DeletesNothing])
async def test_checks_refuse_what_breaks_the_contract(kind: type[FileGeometryStore]) -> None:
    """If this fails, a store of one's own passes the checks and loses or shows geometries."""
    with pytest.raises(ContractError):
        await check_geometry_store(lambda: kind(MemoryFileStore()))


async def test_checks_pass_what_keeps_it() -> None:
    """If this fails, nobody can check a store of their own."""
    await check_geometry_store(lambda: FileGeometryStore(MemoryFileStore()))


# -- what lies in the file store --------------------------------------------------------------


async def test_keys_are_no_uploads_and_lead_back() -> None:
    """If this fails, a collector of uploads deletes geometries, or one of geometries something else."""
    key = geometry_key("acme", HASH)
    assert is_key(key)
    assert key.startswith(GEOMETRY_PREFIX)
    assert not is_upload_key(key)
    assert geometry_owner(key) == ("acme", HASH)
    for other in (f"acme/{'0' * 32}", f"_geometry/{HASH}", key + "x", key.replace("/ab/", "/cd/"), ""):
        assert geometry_owner(other) is None


async def test_it_is_compressed_and_the_same_twice() -> None:
    """If this fails, geometries take ten times the room, or backups see a change where there is none."""
    async with MemoryFileStore() as files:
        store = FileGeometryStore(files)
        await store.put("acme", HASH, DATA * 10_000)
        (first,) = await files.list()
        await store.put("acme", HASH, DATA * 10_000)
        (second,) = await files.list()
    assert first.size < 2000
    assert first.sha256 == second.sha256


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (b"", "incomplete"),
        (b"no gzip", "damaged"),
        (gzip.compress(DATA, mtime=0)[:-5], "incomplete"),
        (gzip.compress(DATA, mtime=0) + b"more", "incomplete, or something follows"),
        (gzip.compress(DATA, mtime=0)[:-8] + b"12345678", "damaged"),
        (gzip.compress(b" " * (MAX_GEOMETRY_BYTES + 1), mtime=0), "10,485,760"),
        (zlib.compress(DATA), "damaged"),
        (bytes(MAX_GEOMETRY_BYTES + 100_000), "too large"),
    ],
    ids=["empty", "none", "cut", "more", "checksum", "swollen", "zlib", "large"],
)
async def test_what_is_damaged_is_refused(stored: bytes, said: str) -> None:
    """If this fails, a damaged or swollen file fills the memory, or is scored as if it were a drawing."""
    async with MemoryFileStore() as files:
        await files.put(geometry_key("acme", HASH), chunks(stored))
        with pytest.raises(UnreadableRecordError, match=said):
            await FileGeometryStore(files).get("acme", HASH)


# -- what is collected ------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILE_STORES)
async def test_collecting_uploads_leaves_geometries_alone(name: str, tmp_path: Path) -> None:
    """If this fails, geometries go with the first collection of uploads, or uploads stay for ever."""
    async with (
        FILE_STORES[name](lambda: time.time() - 2 * HOUR, tmp_path) as files,
        MemoryJobStore() as jobs,
    ):
        store = FileGeometryStore(files)
        for number in range(3):
            await store.put("acme", f"{number:064x}", DATA)
        for upload in ("0one", "acme", "zeta"):
            await files.put(f"{upload}/{'0' * 32}", chunks(b"x"))
        collector = Collector(
            jobs=jobs,
            files=files,
            retention_seconds=-HOUR,  # S3 gives the time itself
            clock=time.time,
            sleep=_no_sleep,
        )
        done = await collector.run()

        assert done.files == 3
        assert [geometry_owner(key) for key in await keys(files)] == [("acme", f"{n:064x}") for n in range(3)]


async def _no_sleep(_: float) -> None:
    return


class Fixture:
    """An index with the drawings of some files, geometries of more, and a collector of those."""

    def __init__(self, vision: FakeVision | EmbeddedVision) -> None:
        self.vision = vision
        self.clock = ManualClock(1_700_000_000.0)
        self.files = MemoryFileStore(clock=self.clock)
        self.store = FileGeometryStore(self.files)
        self.told: list[Waste] = []

    def collector(self, **fields: object) -> GeometryCollector:
        made = GeometryCollector(
            files=self.files,
            vision=self.vision,
            retention_seconds=HOUR,
            clock=self.clock,
            told=self.told.append,
        )
        return evolve(made, **fields)  # type: ignore[arg-type]  # any of its keywords

    async def owners(self) -> list[tuple[str, str] | None]:
        return [geometry_owner(key) for key in await keys(self.files)]


@pytest.fixture(params=["fake", "embedded"])
async def fixture(request: pytest.FixtureRequest) -> AsyncIterator[Fixture]:
    """One that can only list its drawings, and one that can be asked for files."""
    vision = FakeVision() if request.param == "fake" else EmbeddedVision(None, processes=1)
    async with vision:
        yield Fixture(vision)


async def add(fixture: Fixture, tmp_path: Path, number: int, tenant: str = "acme") -> tuple[str, str]:
    """Add a drawing with its geometry, and return the drawing's id and the file's hash."""
    path = tmp_path / f"{number}.svg"
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200">'
        f'<rect x="20" y="20" width="{50 + number * 20}" height="90" fill="none" stroke="black"/></svg>'
    )
    file = await file_in_place(path, path.name, max_bytes=10_000)
    added = await fixture.vision.add(tenant, file)
    await fixture.store.put(tenant, file.sha256, DATA)
    return added.drawing_id, file.sha256


async def test_only_what_no_drawing_needs_goes(fixture: Fixture, tmp_path: Path) -> None:
    """If this fails, gc deletes geometries of drawings that are there, or leaves orphans for ever."""
    _, kept = await add(fixture, tmp_path, 1)
    removed, orphan = await add(fixture, tmp_path, 2)
    _, others = await add(fixture, tmp_path, 3, "other")
    await fixture.store.put("other", kept, DATA)  # the same file, of which this tenant has no drawing
    await fixture.vision.remove("acme", removed)

    young = await fixture.collector().run()
    assert (young.files, fixture.told) == (0, []), "what is younger than the retention stays"

    fixture.clock.advance(HOUR + 1)
    dry = await fixture.collector(dry_run=True).run()
    assert (dry.files, len(await fixture.owners())) == (2, 4)
    assert {waste.kind for waste in fixture.told} == {"geometry"}

    done = await fixture.collector().run()
    assert done.files == 2
    assert done.bytes > 0
    assert await fixture.owners() == [("acme", kept), ("other", others)]
    assert ("acme", orphan) not in await fixture.owners()


async def test_a_tenant_without_drawings_keeps_its_geometries(fixture: Fixture) -> None:
    """If this fails, gc on the wrong machine, or before an index is restored, deletes every geometry."""
    await fixture.store.put("acme", HASH, DATA)
    fixture.clock.advance(100 * HOUR)

    assert (await fixture.collector().run()).files == 0
    assert await fixture.owners() == [("acme", HASH)]


async def test_a_geometry_stored_anew_meanwhile_stays(tmp_path: Path) -> None:
    """If this fails, a drawing that is added again while gc runs loses its geometry."""
    fixture = Fixture(FakeVision())
    async with fixture.vision:
        await add(fixture, tmp_path, 1)
        await fixture.store.put("acme", HASH, DATA)
        fixture.clock.advance(HOUR + 1)

        class Meanwhile(FakeVision):
            async def drawings(
                self, tenant_id: str, *, limit: int = 50, page_token: str | None = None
            ) -> DrawingPage:
                found = await fixture.vision.drawings(tenant_id, limit=limit, page_token=page_token)
                await fixture.store.put("acme", HASH, DATA)
                return found

        done = await fixture.collector(vision=Meanwhile()).run()

        assert done.files == 0
        assert ("acme", HASH) in await fixture.owners()


async def test_a_server_that_cannot_list_keeps_all(tmp_path: Path) -> None:
    """If this fails, gc beside a foreign vision server deletes every geometry, or ends with an error."""

    class Foreign(FakeVision):
        async def drawings(
            self, tenant_id: str, *, limit: int = 50, page_token: str | None = None
        ) -> DrawingPage:
            raise VisionUnsupportedError("list drawings")

    fixture = Fixture(Foreign())
    await fixture.store.put("acme", HASH, DATA)
    fixture.clock.advance(HOUR + 1)
    collector = fixture.collector()

    assert (await collector.run()).files == 0
    assert collector.kept_unknown


async def test_what_cannot_be_deleted_is_told(tmp_path: Path) -> None:
    """If this fails, gc says that all is well while orphans stay, or gives up at the first."""
    fixture = Fixture(FakeVision())

    class Stubborn(MemoryFileStore):
        async def delete(self, key: str) -> bool:
            if "/00/" in key:
                raise StoreUnavailableError("file store", "it is locked")
            return await super().delete(key)

    fixture.files = Stubborn(clock=fixture.clock)
    fixture.store = FileGeometryStore(fixture.files)
    async with fixture.vision:
        await add(fixture, tmp_path, 1)
        await fixture.store.put("acme", "0" * 64, DATA)
        await fixture.store.put("acme", "f" * 64, DATA)
        fixture.clock.advance(HOUR + 1)
        failures: list[str] = []
        done = await fixture.collector(failed=lambda waste, error: failures.append(waste.name)).run()

    assert (done.files, done.failed) == (1, 1)
    assert failures == [geometry_key("acme", "0" * 64)]


async def test_files_are_found_in_the_index(fixture: Fixture, tmp_path: Path) -> None:
    """If this fails, a geometry is taken for an orphan although its drawing is there."""
    hashes = [(await add(fixture, tmp_path, number))[1] for number in range(3)]

    assert await files_in_index(fixture.vision, "acme", [*hashes, HASH]) == set(hashes)
    assert await files_in_index(fixture.vision, "acme", hashes[:1]) == {hashes[0]}
    assert await files_in_index(fixture.vision, "other", hashes) == set()
    assert await files_in_index(fixture.vision, "acme", []) == set()


@pytest.mark.parametrize("fixture", ["embedded"], indirect=True)
async def test_the_last_drawing_takes_its_geometry_along(fixture: Fixture, tmp_path: Path) -> None:
    """If this fails, geometries of removed drawings stay, or go while a second drawing needs them."""
    first, file_hash = await add(fixture, tmp_path, 1)
    assert not await forget_geometry(fixture.store, fixture.vision, "acme", file_hash)
    assert await fixture.store.exists("acme", file_hash)

    await fixture.vision.remove("acme", first)
    assert await forget_geometry(fixture.store, fixture.vision, "acme", file_hash)
    assert not await fixture.store.exists("acme", file_hash)
    assert not await forget_geometry(fixture.store, fixture.vision, "acme", file_hash)


@pytest.mark.parametrize("fixture", ["embedded"], indirect=True)
async def test_a_file_added_again_while_it_is_forgotten_keeps_its_geometry(
    fixture: Fixture, tmp_path: Path
) -> None:
    """If this fails, removing a drawing beside somebody who adds it again loses the geometry."""
    first, file_hash = await add(fixture, tmp_path, 1)
    await fixture.vision.remove("acme", first)

    class Meanwhile(FileGeometryStore):
        async def delete(self, tenant_id: str, file_hash: str) -> bool:
            await add(fixture, tmp_path, 1)
            return await super().delete(tenant_id, file_hash)

    assert not await forget_geometry(Meanwhile(fixture.files), fixture.vision, "acme", file_hash)
    assert await fixture.store.get("acme", file_hash) == DATA


@pytest.mark.parametrize("fixture", ["fake"], indirect=True)
async def test_where_files_cannot_be_asked_for_it_is_left_to_gc(fixture: Fixture, tmp_path: Path) -> None:
    """If this fails, removing one drawing lists a whole index over the network."""
    drawing, file_hash = await add(fixture, tmp_path, 1)
    await add(fixture, tmp_path, 2)
    await fixture.vision.remove("acme", drawing)

    assert not await forget_geometry(fixture.store, fixture.vision, "acme", file_hash)
    fixture.clock.advance(HOUR + 1)
    assert (await fixture.collector().run()).files == 1
