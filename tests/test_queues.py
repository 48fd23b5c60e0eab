"""Queues: the contract on each, and broken ones that the contract must refuse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from dedup2d.errors import InvalidParameterError
from dedup2d.protocols import Queue
from dedup2d.queues.memory import MemoryQueue
from dedup2d.testing import QUEUE_CHECKS, ContractError, check_queue
from dedup2d.types import Lane
from tests.backends import QUEUES


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("check", QUEUE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", QUEUES)
async def test_contract(name: str, check: Callable[[Queue], Awaitable[None]]) -> None:
    """If this fails, wake-ups of this queue are lost, run too many at once, or outlive their worker."""
    with anyio.fail_after(20):
        async with QUEUES[name]() as queue:
            await check(queue)


class EndsAtError(MemoryQueue):
    async def _serve(self, handler: Callable[[str], Awaitable[None]]) -> None:
        try:
            while True:
                await handler(await self._next())
        except RuntimeError:
            return


class OneTooMany(MemoryQueue):
    async def consume(self, handler: Callable[[str], Awaitable[None]], *, concurrency: int) -> None:
        await super().consume(handler, concurrency=concurrency + 1)


class OneByOne(MemoryQueue):
    async def consume(self, handler: Callable[[str], Awaitable[None]], *, concurrency: int) -> None:
        await super().consume(handler, concurrency=1)


class ForgetsWhatRuns(MemoryQueue):
    """Drops a wake-up for a job whose handler runs: a job given back meanwhile would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.running: set[str] = set()

    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        if job_id not in self.running:
            await super().put(job_id)

    async def consume(self, handler: Callable[[str], Awaitable[None]], *, concurrency: int) -> None:
        async def noting(job_id: str) -> None:
            self.running.add(job_id)
            try:
                await handler(job_id)
            finally:
                self.running.discard(job_id)

        await super().consume(noting, concurrency=concurrency)


class WaitsForRoom(MemoryQueue):
    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        while await self.depth() >= 100:
            await anyio.lowlevel.checkpoint()
        await super().put(job_id)


class OneErrorEndsAll(MemoryQueue):
    async def _serve(self, handler: Callable[[str], Awaitable[None]]) -> None:
        while True:
            await handler(await self._next())


class KeepsDepth(MemoryQueue):
    async def depth(self) -> int:
        return 0


class NeverForgets(MemoryQueue):
    most = 0

    async def depth(self) -> int:
        self.most = max(self.most, await super().depth())
        return self.most


class ServesOneLane(MemoryQueue):
    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        if lane is Lane.MAIN:
            await super().put(job_id)


class LeavesHandlersBehind(MemoryQueue):
    """Returns from a cancelled consume while handlers still clean up."""

    async def consume(self, handler: Callable[[str], Awaitable[None]], *, concurrency: int) -> None:
        task = asyncio.ensure_future(super().consume(handler, concurrency=concurrency))
        try:
            await anyio.sleep_forever()
        finally:
            task.cancel()


class Merging(MemoryQueue):
    """A good queue in which one wake-up stands for all that wait."""

    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        if not self._waiting:
            await super().put(job_id)

    async def pass_on(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        await self.put(job_id)


class NeverPassesOn(Merging):
    async def pass_on(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        pass


class PassesOnToTheIdleOnly(Merging):
    """Waits with passing on until somebody is idle, so that who found a job does not begin."""

    async def pass_on(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        await self.put(job_id)
        while await self.depth():  # noqa: ASYNC110 - a broken one may be ugly too
            await anyio.sleep(0.001)


class MergesWithWhatRuns(Merging):
    """Takes a handler that runs for one that will still look: it may have looked for the last time."""

    running = 0

    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        if not self.running:
            await super().put(job_id)

    async def pass_on(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        await super().put(job_id)

    async def consume(self, handler: Callable[[str], Awaitable[None]], *, concurrency: int) -> None:
        async def counting(job_id: str) -> None:
            self.running += 1
            try:
                await handler(job_id)
            finally:
                self.running -= 1

        await super().consume(counting, concurrency=concurrency)


async def test_contract_allows_a_queue_that_merges() -> None:
    """If this fails, a queue has to keep every wake-up, and a long queue of jobs costs twice."""
    await check_queue(Merging, seconds=10)


@pytest.mark.parametrize(
    "broken",
    [
        EndsAtError,
        ForgetsWhatRuns,
        KeepsDepth,
        LeavesHandlersBehind,
        MergesWithWhatRuns,
        NeverForgets,
        NeverPassesOn,
        OneByOne,
        OneErrorEndsAll,
        OneTooMany,
        PassesOnToTheIdleOnly,
        ServesOneLane,
        WaitsForRoom,
    ],
)
async def test_contract_refuses_broken_queues(broken: Callable[[], MemoryQueue]) -> None:
    """If this fails, somebody's broken queue passes for one that keeps the contract."""
    with pytest.raises(ContractError):
        await check_queue(broken, seconds=0.5)


async def test_errors_of_handlers_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """If this fails, a handler that breaks leaves no trace for the operator."""
    async with MemoryQueue() as queue, anyio.create_task_group() as tasks:

        async def consume() -> None:
            await queue.consume(handler, concurrency=1)

        done = anyio.Event()

        async def handler(job_id: str) -> None:
            if job_id == "last":
                done.set()
            else:
                raise RuntimeError("broken here")

        tasks.start_soon(consume)
        await queue.put("first")
        await queue.put("last")
        await done.wait()
        tasks.cancel_scope.cancel()

    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.job_id == "first"  # type: ignore[attr-defined]  # set by what was called
    assert "broken here" in caplog.text


async def test_waiting_ids_are_bounded() -> None:
    """If this fails, repeated wake-ups without a worker eat the memory of the service."""
    async with MemoryQueue(max_waiting=3) as queue:
        for _ in range(10):
            await queue.put("same")
        assert await queue.depth() == 1
        for number in range(10):
            await queue.put(f"job-{number}")
        assert await queue.depth() == 3


async def test_no_concurrency_is_refused() -> None:
    """If this fails, a queue that is to run nothing waits silently instead of saying so."""
    async with MemoryQueue() as queue:
        with pytest.raises(InvalidParameterError, match="concurrency"):
            await queue.consume(anyio.sleep, concurrency=0)  # type: ignore[arg-type]  # wrong on purpose
