"""What delivers callbacks: fairness between tenants, stopping, and a store or a sender that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Self

import anyio
import pytest
from attrs import define, field

from dedup2d.callbacks.attempts import Attempt, CallbackOptions, Outcome
from dedup2d.callbacks.delivery import Deliverer
from dedup2d.errors import StoreUnavailableError
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.protocols import Resource
from dedup2d.testing import ManualClock
from dedup2d.testing.job_making import admit
from dedup2d.types import CallbackStatus, Job

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Scripted(Resource):
    """A sender that answers as it is told, at once or when let go."""

    options: CallbackOptions = field(factory=CallbackOptions)
    gate: anyio.Event | None = None
    sent: list[str] = field(factory=list)
    raises: Exception | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def check(self, url: str) -> str:
        return url

    async def send(self, job: Job) -> Attempt:
        self.sent.append(job.job_id)
        if self.raises:
            raise self.raises
        if self.gate is not None:
            await self.gate.wait()
        return Attempt(outcome=Outcome.SUCCESS, http_status=200)


def deliverer_of(jobs: MemoryJobStore, sender: Scripted, clock: ManualClock) -> Deliverer:
    numbers = iter(range(10**6))
    return Deliverer(
        jobs=jobs, sender=sender, ttl_seconds=60.0, clock=clock, new_id=lambda: f"lease-{next(numbers)}"
    )


async def until(what: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not what():  # noqa: ASYNC110 - it is told to nobody
            await anyio.sleep(0.01)


async def due(jobs: MemoryJobStore, clock: ManualClock, job_id: str, tenant_id: str = "tenant") -> None:
    await admit(jobs, clock, job_id, callback_url="https://receiver.example/", tenant_id=tenant_id)
    await jobs.cancel(job_id, tenant_id, ttl_seconds=60)


async def test_receivers_of_one_tenant_that_hang_do_not_hold_up_others() -> None:
    """If this fails, one tenant's receivers keep the callbacks of all others waiting."""
    clock = ManualClock()
    jobs, sender = MemoryJobStore(clock=clock), Scripted(CallbackOptions(concurrency=8), anyio.Event())
    deliverer = deliverer_of(jobs, sender, clock)
    for number in range(30):
        await due(jobs, clock, f"loud-{number}", "loud")
    await due(jobs, clock, "quiet", "quiet")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliverer.run)
        await until(lambda: "quiet" in sender.sent)
        assert sum(name.startswith("loud") for name in sender.sent) == 2
        assert sender.gate is not None
        sender.gate.set()
        await until(lambda: len(sender.sent) == 31)
        tasks.cancel_scope.cancel()


async def test_who_stops_gives_back_what_is_on_its_way() -> None:
    """If this fails, each deploy makes callbacks wait for a lease, or costs them an attempt."""
    clock = ManualClock()
    jobs, sender = MemoryJobStore(clock=clock), Scripted(gate=anyio.Event())
    await due(jobs, clock, "job")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliverer_of(jobs, sender, clock).run)
        await until(lambda: sender.sent)
        tasks.cancel_scope.cancel()
    job = await jobs.get("job")
    assert (job.callback_status, job.callback_attempts) == (CallbackStatus.PENDING, 0)
    assert job.callback_next_attempt_at == clock()
    assert job.callback_message_id is not None


async def test_draining_waits_for_what_is_on_its_way_and_takes_no_more() -> None:
    """If this fails, stopping sends callbacks twice, or goes on for as long as new ones come."""
    clock = ManualClock()
    jobs, sender = MemoryJobStore(clock=clock), Scripted(gate=anyio.Event())
    deliverer = deliverer_of(jobs, sender, clock)
    await due(jobs, clock, "first")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliverer.run)
        await until(lambda: sender.sent)
        drained: list[bool] = []

        async def drain() -> None:
            await deliverer.drain()
            drained.append(True)

        tasks.start_soon(drain)
        await due(jobs, clock, "second")
        deliverer.poke()
        await anyio.sleep(0.05)
        assert (drained, sender.sent) == ([], ["first"])
        assert sender.gate is not None
        sender.gate.set()
        await until(lambda: drained)
        tasks.cancel_scope.cancel()
    assert sender.sent == ["first"]
    assert (await jobs.get("first")).callback_status is CallbackStatus.SUCCESS


async def test_a_sender_that_breaks_is_an_attempt_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    """If this fails, one callback that cannot be made stops all others."""
    clock = ManualClock()
    jobs, sender = MemoryJobStore(clock=clock), Scripted(raises=RuntimeError("secret"))
    await due(jobs, clock, "job")
    with caplog.at_level(logging.ERROR):
        await deliverer_of(jobs, sender, clock).deliver_due()
    job = await jobs.get("job")
    assert (job.callback_status, job.callback_attempts) == (CallbackStatus.PENDING, 1)
    assert job.callback_last_error == "it could not be sent: see the service's log"
    assert "could not be sent" in caplog.text


async def test_who_is_lost_at_the_last_attempt_ends_it() -> None:
    """If this fails, a callback that kills its sender is sent for ever."""
    clock = ManualClock()
    jobs, sender = MemoryJobStore(clock=clock), Scripted(CallbackOptions(max_attempts=2))
    await due(jobs, clock, "job")
    for number in range(2):
        assert await jobs.claim_callback(f"dead-{number}", lease_seconds=10)
        clock.advance(10)
    await deliverer_of(jobs, sender, clock).deliver_due()
    job = await jobs.get("job")
    assert (job.callback_status, sender.sent) == (CallbackStatus.FAILED, [])
    assert "lost" in (job.callback_last_error or "")


async def test_a_store_that_is_away_for_a_moment_loses_no_outcome() -> None:
    """If this fails, a receiver is told twice whenever the store hiccups."""

    class Hiccups(MemoryJobStore):
        left = 3

        async def finish_callback(self, *given: Any, **outcome: Any) -> Job:
            if self.left:
                self.left -= 1
                raise StoreUnavailableError("job store", "it is locked")
            return await super().finish_callback(*given, **outcome)

    clock = ManualClock()
    jobs, sender = Hiccups(clock=clock), Scripted()
    deliverer = deliverer_of(jobs, sender, clock)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    deliverer.sleep = sleep
    await due(jobs, clock, "job")
    await deliverer.deliver_due()
    assert (await jobs.get("job")).callback_status is CallbackStatus.SUCCESS
    assert (sender.sent, slept) == (["job"], [0.2, 0.4, 0.8])


async def test_a_store_that_stays_away_makes_it_be_sent_again() -> None:
    """If this fails, a callback whose outcome could not be stored is lost, or blocks its sender."""

    class Away(MemoryJobStore):
        async def finish_callback(self, *given: Any, **outcome: Any) -> Job:
            raise StoreUnavailableError("job store", "it is locked")

    clock = ManualClock()
    jobs, sender = Away(clock=clock), Scripted()
    deliverer = deliverer_of(jobs, sender, clock)

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    deliverer.sleep = sleep
    await due(jobs, clock, "job")
    begin = clock()
    with anyio.fail_after(5):
        await deliverer._deliver(await jobs.claim_callback("t", lease_seconds=20), "t")  # type: ignore[arg-type]  # there is one
    assert clock() - begin <= 20
    clock.set(begin + 20)
    again = await jobs.claim_callback("next", lease_seconds=20)
    assert again is not None
    assert again.callback_attempts == 2
