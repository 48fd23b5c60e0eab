"""How many drawings an index may have: kept to by adds at the same moment, of several processes too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

from dedup2d.errors import Dedup2DError, IndexFullError, UnreadableDrawingError
from dedup2d.files.memory import MemoryFileStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.queues.memory import MemoryQueue
from dedup2d.service import Dedup2D, ServiceOptions
from dedup2d.tenants import TenantLimits
from dedup2d.testing import FakeVision
from dedup2d.types import DrawingFile
from dedup2d.vision.embedded import EmbeddedVision
from dedup2d.vision.http_refusals import Refusal, refusal
from tests.drawings import small_png
from tests.test_catalogue import file, opened, sheets


def drawing_file(data: bytes) -> DrawingFile:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return DrawingFile(name="a.png", sha256=sha256(data).hexdigest(), size=len(data), open=chunks)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_adds_at_the_same_moment_stay_within_the_limit_together(tmp_path: Path) -> None:
    """If this fails, a tenant that adds fast enough has no limit."""
    catalogues = [opened(tmp_path / "catalogue.sqlite3") for _ in range(2)]

    def add(number: int) -> int:
        try:
            ids, added = catalogues[number % 2].add(file(number), sheets(1 + number % 3), 10)
        except IndexFullError:
            return 0
        assert added
        return len(ids)

    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(add, range(40)))

    assert taken == catalogues[0].counts().drawings == 10
    for each in catalogues:
        each.close()


def test_what_is_replaced_makes_room(tmp_path: Path) -> None:
    """If this fails, a full index cannot be kept up to date."""
    catalogue = opened(tmp_path / "catalogue.sqlite3")
    catalogue.add(file(1, source="a"), sheets(2), 2)

    assert catalogue.add(file(1, source="a"), sheets(2), 2)[1] is False
    assert catalogue.add(file(2, source="a"), sheets(2), 2)[1] is True
    with pytest.raises(IndexFullError, match="3 more"):
        catalogue.add(file(3, source="a"), sheets(3), 2)
    assert catalogue.counts().drawings == 2
    catalogue.close()


async def test_the_engine_refuses_before_it_reads(tmp_path: Path) -> None:
    """If this fails, adds to a full index cost as much as to any other, or a limit holds for all tenants."""
    limits = {"acme": 1}
    async with EmbeddedVision(tmp_path, max_drawings=lambda tenant: limits.get(tenant, 0)) as vision:
        first = await vision.add("acme", drawing_file(small_png(seed=1)))
        assert first.added
        with pytest.raises(IndexFullError):
            await vision.add("acme", drawing_file(b"\x89PNG\r\n\x1a\nthat cannot be read"))
        again = await vision.add("acme", drawing_file(small_png(seed=1)))
        assert (again.added, again.drawing_ids) == (False, first.drawing_ids)
        for number in (1, 2):
            assert (await vision.add("umbra", drawing_file(small_png(seed=number)))).added
        await vision.remove("acme", first.drawing_id)
        with pytest.raises(UnreadableDrawingError):
            await vision.add("acme", drawing_file(b"\x89PNG\r\n\x1a\nthat cannot be read"))


async def test_a_service_looks_where_its_vision_does_not() -> None:
    """If this fails, a limit that is set for a service in front of a foreign vision server has no effect."""
    options = ServiceOptions(max_drawings_per_tenant=1, tenant_limits={"umbra": TenantLimits(max_drawings=2)})
    service = Dedup2D(
        jobs=MemoryJobStore(),
        files=MemoryFileStore(),
        queue=MemoryQueue(),
        vision=FakeVision(),
        options=options,
    )
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 50
    async with service:
        for tenant, most in (("acme", 1), ("umbra", 2)):
            for number in range(most):
                await service.add(tenant, png + bytes([number]), file_name=f"{number}.png")
            with anyio.fail_after(5), pytest.raises(IndexFullError):
                await service.add(tenant, png + b"more", file_name="more.png")


def test_a_full_index_of_a_vision_server_is_no_outage() -> None:
    """If this fails, a full index opens the circuit to the vision server for all tenants."""
    body = b'{"code":"INDEX_FULL","detail":"the index may have 1 drawings"}'
    failure = refusal(Refusal(status=507, headers={}, data=body, what="add to the index"))

    assert isinstance(failure.error, IndexFullError)
    assert isinstance(failure.error, Dedup2DError)
    assert "may have 1" in str(failure.error)
    assert not failure.server_failed
    assert not failure.again
