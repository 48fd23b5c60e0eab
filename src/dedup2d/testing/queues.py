"""The contract of `Queue` as checks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from dedup2d.protocols import Queue
from dedup2d.testing.expecting import checking, expect, expect_same

__all__ = ["QUEUE_CHECKS", "QueueMaker", "check_queue"]

QueueMaker = Callable[[], AbstractAsyncContextManager[Queue]]
"""Makes an empty Queue."""


class _Worker:
    """A handler that notes what it is woken for, and waits while `gate` is shut."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.running = 0
        self.most = 0
        self.ended: list[str] = []
        self.failing: set[str] = set()
        self.gate = anyio.Event()
        self._changed = anyio.Event()

    async def __call__(self, job_id: str) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.woken.append(job_id)
        self._note()
        try:
            await self.gate.wait()
            if job_id in self.failing:
                raise RuntimeError(job_id)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            self.running -= 1
            self.ended.append(job_id)
            self._note()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _note(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@asynccontextmanager
async def _consuming(queue: Queue, worker: _Worker, *, concurrency: int) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:

        async def consume() -> None:
            await queue.consume(worker, concurrency=concurrency)

        tasks.start_soon(consume)
        yield
        tasks.cancel_scope.cancel()


async def _settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def wakes_for_what_was_put_before_and_after(queue: Queue) -> None:
    worker = _Worker()
    worker.gate.set()
    await queue.put("before")
    async with _consuming(queue, worker, concurrency=1):
        await worker.until(lambda: "before" in worker.ended)
        await queue.put("after")
        await worker.until(lambda: "after" in worker.ended)


async def runs_as_many_at_once_as_it_may(queue: Queue) -> None:
    worker = _Worker()
    for number in range(6):
        await queue.put(f"job-{number}")
    async with _consuming(queue, worker, concurrency=3):
        await worker.until(lambda: worker.running >= 3)
        await _settle()
        expect_same(worker.running, 3, "three handlers run at once, no more")
        worker.gate.set()
        await worker.until(lambda: len(set(worker.ended)) == 6)
    expect_same(worker.most, 3, "never were there more")


async def puts_without_waiting_for_a_worker(queue: Queue) -> None:
    expect_same(await queue.depth(), 0, "an empty queue")
    for number in range(300):
        await queue.put(f"job-{number}")
    expect((await queue.depth()) >= 1, "wake-ups wait")
    worker = _Worker()
    worker.gate.set()
    async with _consuming(queue, worker, concurrency=10):
        await worker.until(lambda: len(set(worker.ended)) == 300)
    expect_same(await queue.depth(), 0, "then none waits")


async def goes_on_after_a_handler_that_raises(queue: Queue) -> None:
    worker = _Worker()
    worker.gate.set()
    worker.failing = {"bad-1", "bad-2"}
    for name in ("bad-1", "good-1", "bad-2", "good-2"):
        await queue.put(name)
    async with _consuming(queue, worker, concurrency=1):
        await worker.until(lambda: len(set(worker.ended)) == 4)
        await queue.put("good-3")
        await worker.until(lambda: "good-3" in worker.ended)


async def a_failing_handler_leaves_those_beside_it_alone(queue: Queue) -> None:
    worker, failed = _Worker(), anyio.Event()

    async def handler(job_id: str) -> None:
        if job_id == "bad":
            failed.set()
            raise RuntimeError(job_id)
        await worker(job_id)

    async with anyio.create_task_group() as tasks:

        async def consume() -> None:
            await queue.consume(handler, concurrency=2)

        tasks.start_soon(consume)
        await queue.put("good")
        await worker.until(lambda: worker.running == 1)
        await queue.put("bad")
        await failed.wait()
        await _settle()
        expect_same(worker.running, 1, "the handler beside the one that failed goes on")
        worker.gate.set()
        await worker.until(lambda: worker.ended == ["good"])
        tasks.cancel_scope.cancel()


async def cancelling_waits_for_the_handlers(queue: Queue) -> None:
    worker = _Worker()
    for number in range(2):
        await queue.put(f"job-{number}")
    async with _consuming(queue, worker, concurrency=2):
        await worker.until(lambda: worker.running == 2)
    expect_same(worker.running, 0, "when consume returns no handler runs")
    expect_same(sorted(worker.ended), ["job-0", "job-1"], "they were cancelled and have cleaned up")


async def wakes_again_for_the_same_job(queue: Queue) -> None:
    worker = _Worker()
    async with _consuming(queue, worker, concurrency=2):
        await queue.put("job")
        await worker.until(lambda: worker.running == 1)
        await queue.put("job")
        worker.gate.set()
        # The job may have been given back after the first look, so the second must come.
        await worker.until(lambda: worker.ended.count("job") == 2)
        await queue.put("job")
        await worker.until(lambda: worker.ended.count("job") >= 3)


async def can_be_consumed_again(queue: Queue) -> None:
    for name in ("first", "second"):
        worker = _Worker()
        worker.gate.set()
        async with _consuming(queue, worker, concurrency=1):
            await queue.put(name)
            await worker.until(lambda worker=worker, name=name: name in worker.ended)  # type: ignore[misc]


QUEUE_CHECKS: tuple[Callable[[Queue], Awaitable[None]], ...] = (
    wakes_for_what_was_put_before_and_after,
    runs_as_many_at_once_as_it_may,
    puts_without_waiting_for_a_worker,
    goes_on_after_a_handler_that_raises,
    a_failing_handler_leaves_those_beside_it_alone,
    cancelling_waits_for_the_handlers,
    wakes_again_for_the_same_job,
    can_be_consumed_again,
)
"""Every check by itself: called with an empty queue."""


async def check_queue(make: QueueMaker, *, seconds: float = 30.0) -> None:
    """
    Assert that the queues of *make* keep the contract of `Queue`.

    The contract lets a queue lose wake-ups; these checks, in which nothing crashes, do not.

    Args:
        make: gives an async context manager of an empty queue.
        seconds: how long one check may take.

    Raises:
        ContractError: they do not, or a check took too long; the error names the check.
    """
    for check in QUEUE_CHECKS:
        with checking(check, seconds):
            async with make() as queue:
                await check(queue)
