"""Draining a service: what runs may end, nothing new begins, and what does not end is given back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from dedup2d import Dedup2D, JobStatus, ServiceOptions
from dedup2d.files.memory import MemoryFileStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.queues.memory import MemoryQueue
from dedup2d.runner import RunnerOptions
from dedup2d.testing import FakeVision
from dedup2d.types import Lane

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class NotingQueue(MemoryQueue):
    """Notes whom it was asked to wake."""

    def __init__(self) -> None:
        super().__init__()
        self.put_ids: list[str] = []

    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        self.put_ids.append(job_id)
        await super().put(job_id, lane=lane)


@asynccontextmanager
async def service(vision: FakeVision, *, concurrency: int = 1) -> AsyncIterator[Dedup2D]:
    async with Dedup2D(
        jobs=MemoryJobStore(),
        files=MemoryFileStore(),
        queue=NotingQueue(),
        vision=vision,
        options=ServiceOptions(run=RunnerOptions(concurrency=concurrency, sweep_seconds=3600)),
    ) as dedup:
        yield dedup


async def test_what_runs_ends_and_what_waits_is_left() -> None:
    """If this fails, a deploy throws work away that was almost done, or begins more."""
    vision = FakeVision()
    vision.hold()
    async with service(vision, concurrency=2) as dedup:
        jobs = [await dedup.submit("acme", PNG, file_name=f"{n}.png") for n in range(3)]
        await vision.until_running(2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dedup.drain)
            await anyio.wait_all_tasks_blocked()
            vision.let_go()
        found = [(await dedup.get("acme", job.job_id)).status for job in jobs]

    assert found == [JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.PENDING]


async def test_what_does_not_end_in_time_is_given_back_and_another_worker_woken() -> None:
    """If this fails, a search that takes long makes a deploy fail, or waits for its lease to run out."""
    vision = FakeVision()
    vision.hold()
    async with service(vision) as dedup:
        job = await dedup.submit("acme", PNG, file_name="a.png")
        await vision.until_running(1)
        queue = dedup.queue
        assert isinstance(queue, NotingQueue)
        queue.put_ids.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dedup.drain)
            await anyio.wait_all_tasks_blocked()
            assert (await dedup.get("acme", job.job_id)).status is JobStatus.IN_PROGRESS
            tasks.cancel_scope.cancel()
        # Not when the service is left, which may take a while: now.
        while (left := await dedup.get("acme", job.job_id)).status is JobStatus.IN_PROGRESS:
            await anyio.lowlevel.checkpoint()

    assert (left.status, left.losses) == (JobStatus.PENDING, 0)
    assert queue.put_ids == [job.job_id]


@pytest.mark.parametrize("concurrency", [0, 2])
async def test_a_service_that_runs_nothing_is_drained_at_once(concurrency: int) -> None:
    """If this fails, stopping an idle worker takes the whole grace."""
    async with service(FakeVision(), concurrency=concurrency) as dedup:
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await dedup.drain()
