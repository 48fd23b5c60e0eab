"""The contract of `Queue` as checks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from dedup2d.protocols import Queue, SharedQueue
from dedup2d.testing.expecting import checking, expect, expect_same
from dedup2d.types import Lane

__all__ = ["QUEUE_CHECKS", "QueueMaker", "check_queue"]

QueueMaker = Callable[[], AbstractAsyncContextManager[Queue]]
"""Makes an empty Queue whose consumers serve all lanes."""

_POLL_SECONDS = 0.02


class _Worker:
    """
    A handler as the service has it: it runs every job that waits, and wakes the next before it works.

    Jobs are names, kept beside the queue. One that was taken works while `gate` is shut; a handler that has
    found nothing more is about to return while `door` is shut.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.waiting: dict[str, None] = {}
        self.failing: set[str] = set()
        self.working = 0
        self.handlers = 0
        self.most = 0
        self.looked = 0
        self.ended: list[str] = []
        self.gate = anyio.Event()
        self.door = anyio.Event()
        self.door.set()
        self._changed = anyio.Event()

    async def give(self, *names: str, lane: Lane = Lane.MAIN) -> None:
        """Let jobs wait, and put each into the queue."""
        for name in names:
            self.waiting[name] = None
            await self.queue.put(name, lane=lane)

    async def __call__(self, job_id: str) -> None:
        self.handlers += 1
        self.most = max(self.most, self.handlers)
        try:
            while (name := self._take(job_id)) is not None:
                if isinstance(self.queue, SharedQueue):
                    await self.queue.pass_on(name)
                await self._work(name)
            self.looked += 1
            self._note()
            await self.door.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            self.handlers -= 1
            self._note()

    def _take(self, job_id: str) -> str | None:
        name = job_id if job_id in self.waiting else next(iter(self.waiting), None)
        if name is not None:
            del self.waiting[name]
        return name

    async def _work(self, name: str) -> None:
        self.working += 1
        self._note()
        try:
            await self.gate.wait()
            if name in self.failing:
                raise RuntimeError(name)
        finally:
            self.working -= 1
            self.ended.append(name)
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


def _names(count: int) -> list[str]:
    return [f"job-{number}" for number in range(count)]


async def wakes_for_what_was_put_before_and_after(queue: Queue) -> None:
    worker = _Worker(queue)
    worker.gate.set()
    await worker.give("before")
    async with _consuming(queue, worker, concurrency=1):
        await worker.until(lambda: "before" in worker.ended)
        await worker.give("after")
        await worker.until(lambda: "after" in worker.ended)


async def wakes_for_every_lane(queue: Queue) -> None:
    worker = _Worker(queue)
    worker.gate.set()
    async with _consuming(queue, worker, concurrency=1):
        for lane in Lane:
            await worker.give(lane.value, lane=lane)
            await worker.until(lambda lane=lane: lane.value in worker.ended)  # type: ignore[misc]  # mypy knows no defaults of lambdas


async def runs_as_many_at_once_as_it_may(queue: Queue) -> None:
    worker = _Worker(queue)
    await worker.give(*_names(6))
    async with _consuming(queue, worker, concurrency=3):
        await worker.until(lambda: worker.working >= 3)
        await _settle()
        expect_same(worker.working, 3, "three handlers work at once, no more")
        worker.gate.set()
        await worker.until(lambda: len(set(worker.ended)) == 6)
    expect_same(worker.most, 3, "never were there more")


async def one_wake_up_is_passed_on_until_all_work(queue: Queue) -> None:
    if not isinstance(queue, SharedQueue):
        return
    worker = _Worker(queue)
    worker.waiting = dict.fromkeys(_names(5))
    async with _consuming(queue, worker, concurrency=4):
        await queue.put("job-0")
        await worker.until(lambda: worker.working == 4)
        worker.gate.set()
        await worker.until(lambda: len(worker.ended) == 5)


async def puts_without_waiting_for_a_worker(queue: Queue) -> None:
    worker = _Worker(queue)
    worker.gate.set()
    expect_same(await queue.depth(), 0, "an empty queue")
    await worker.give(*_names(300))
    expect((await queue.depth()) >= 1, "wake-ups wait")
    async with _consuming(queue, worker, concurrency=10):
        await worker.until(lambda: len(set(worker.ended)) == 300)
        while await queue.depth():  # noqa: ASYNC110 - a queue on another machine tells nobody
            await anyio.sleep(_POLL_SECONDS)


async def goes_on_after_a_handler_that_raises(queue: Queue) -> None:
    worker = _Worker(queue)
    worker.gate.set()
    worker.failing = {"bad-1", "bad-2"}
    await worker.give("bad-1", "good-1", "bad-2", "good-2")
    async with _consuming(queue, worker, concurrency=1):
        await worker.until(lambda: len(set(worker.ended)) == 4)
        await worker.give("good-3")
        await worker.until(lambda: "good-3" in worker.ended)


async def a_failing_handler_leaves_those_beside_it_alone(queue: Queue) -> None:
    worker, failed = _Worker(queue), anyio.Event()

    async def handler(job_id: str) -> None:
        if "bad" in worker.waiting:
            worker.waiting.clear()
            failed.set()
            raise RuntimeError(job_id)
        await worker(job_id)

    async with anyio.create_task_group() as tasks:

        async def consume() -> None:
            await queue.consume(handler, concurrency=2)

        tasks.start_soon(consume)
        await worker.give("good")
        await worker.until(lambda: worker.working == 1)
        await worker.give("bad")
        await failed.wait()
        await _settle()
        expect_same(worker.working, 1, "the handler beside the one that failed goes on")
        worker.gate.set()
        await worker.until(lambda: worker.ended == ["good"])
        tasks.cancel_scope.cancel()


async def cancelling_waits_for_the_handlers(queue: Queue) -> None:
    worker = _Worker(queue)
    await worker.give(*_names(2))
    async with _consuming(queue, worker, concurrency=2):
        await worker.until(lambda: worker.working == 2)
    expect_same(worker.handlers, 0, "when consume returns no handler runs")
    expect_same(sorted(worker.ended), _names(2), "they were cancelled and have cleaned up")


async def wakes_again_for_the_same_job(queue: Queue) -> None:
    worker = _Worker(queue)
    async with _consuming(queue, worker, concurrency=2):
        await worker.give("job")
        await worker.until(lambda: worker.working == 1)
        # It may have been given back meanwhile: then an idle handler is to look, not the busy one, later.
        await worker.give("job")
        await worker.until(lambda: worker.working == 2)
        worker.gate.set()
        await worker.until(lambda: worker.ended.count("job") == 2)
        await worker.give("job")
        await worker.until(lambda: worker.ended.count("job") == 3)


async def wakes_again_when_a_handler_is_about_to_end(queue: Queue) -> None:
    worker = _Worker(queue)
    worker.gate.set()
    worker.door = anyio.Event()
    async with _consuming(queue, worker, concurrency=1):
        await worker.give("first")
        await worker.until(lambda: "first" in worker.ended and worker.looked == 1)
        await worker.give("second")
        worker.door.set()
        await worker.until(lambda: "second" in worker.ended)


async def can_be_consumed_again(queue: Queue) -> None:
    for name in ("first", "second"):
        worker = _Worker(queue)
        worker.gate.set()
        async with _consuming(queue, worker, concurrency=1):
            await worker.give(name)
            await worker.until(lambda worker=worker, name=name: name in worker.ended)  # type: ignore[misc]  # mypy knows no defaults of lambdas


QUEUE_CHECKS: tuple[Callable[[Queue], Awaitable[None]], ...] = (
    wakes_for_what_was_put_before_and_after,
    wakes_for_every_lane,
    runs_as_many_at_once_as_it_may,
    one_wake_up_is_passed_on_until_all_work,
    puts_without_waiting_for_a_worker,
    goes_on_after_a_handler_that_raises,
    a_failing_handler_leaves_those_beside_it_alone,
    cancelling_waits_for_the_handlers,
    wakes_again_for_the_same_job,
    wakes_again_when_a_handler_is_about_to_end,
    can_be_consumed_again,
)
"""Every check by itself: called with an empty queue."""


async def check_queue(make: QueueMaker, *, seconds: float = 30.0) -> None:
    """
    Assert that the queues of *make* keep the contract of `Queue`.

    The contract lets a queue lose wake-ups; these checks, in which nothing crashes, do not. It also lets one
    wake-up stand for many jobs (`SharedQueue`): what counts is that every job that was put is found.

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
